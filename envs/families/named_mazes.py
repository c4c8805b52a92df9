"""The test mazes of the literature on environment design, drawn without their border.

Reference: Jiang et al. (2021), Replay-Guided Adversarial Environment Design, arXiv:2110.02439, and
Jiang et al. (2023), minimax, arXiv:2311.12716; the first eight are those that JaxUED (Coward et al.
2024, arXiv:2403.13091) evaluates on. Where an agent's direction is drawn at random there, it looks
right here; of a corridor's goals, one stands for all by symmetry, near or far (`...Corridor`,
`...CorridorFar`).
"""

from __future__ import annotations

from typing import Final


def _corridors(side: int, goal: tuple[int, int]) -> str:
    """Dead ends side by side, above and below a wall; the agent is in the middle of the left."""
    middle, last = side // 2, side - 1
    rows = [["."] * side for _ in range(side)]
    for y in range(1, last):
        for x in range(1, last):
            if x % 2 == 1 or y == middle:
                rows[y][x] = "#"
    rows[middle][0] = ">"
    rows[goal[1]][goal[0]] = "G"
    return "\n".join("".join(row) for row in rows)


MAZES: Final = {
    "SixteenRooms": """
...#..#..#...
.>.......#...
...#..#......
#.###.##.###.
...#.........
......#..#...
##.#.##.###.#
...#.....#...
...#..#......
.####.##.#.##
...#..#..#...
......#....G.
...#.....#...
""",
    "SixteenRooms2": """
...#.....#...
.>....#..#...
...#..#..#...
####.##.###.#
...#..#......
......#..#...
#.#####.#####
...#..#..#...
...#.........
##.##.##.####
...#..#..#...
......#....G.
...#..#..#...
""",
    "Labyrinth": """
.............
.###########.
.#.........#.
.#.#######.#.
.#.#.....#.#.
.#.#.###.#.#.
.#.#.#G#.#.#.
.#.#.#.#.#.#.
.#...#...#.#.
.#########.#.
.....#.....#.
####.#.#####.
>....#.......
""",
    "LabyrinthFlipped": """
.............
.###########.
.#.........#.
.#.#######.#.
.#.#.....#.#.
.#.#.###.#.#.
.#.#.#G#.#.#.
.#.#.#.#.#.#.
.#.#...#...#.
.#.#########.
.#.....#.....
.#####.#.####
.......#....<
""",
    "Labyrinth2": """
>#...........
.#.#########.
.#.#.......#.
.#.#.#####.#.
.#.#.#...#.#.
...#.#.#.#.#.
####.#G#.#.#.
...#.###.#.#.
.#.#.....#.#.
.#.#######.#.
.#.........#.
.###########.
.............
""",
    "StandardMaze": """
.....#>...#..
.###.####.##.
.#...........
.########.###
........#....
######.#####.
....#..#.....
.##...##.####
..#.#..#...#.
#.#.##.###.#.
#.#..#...#...
#.##.###.###.
...#..G#.#...
""",
    "StandardMaze2": """
...#.#....#..
.#.#.####...#
.#........#..
.########.###
...#..#.#.#.G
##.#.##.#.#..
>#.#....#.##.
.#.##.###..#.
.#..#..###.#.
.##.##.#.#.#.
.#...#.#.#.#.
.#.#.#.#.#.#.
...#...#.....
""",
    "StandardMaze3": """
...>#.#......
.####.#.####.
.#....#.#....
...####.#.#.#
##.#....#.#..
...#.##.#.##.
.#.#.#..#..#G
.#.#.#.###.##
.#...#.#.#...
.###.#.#.###.
.#...#.#...#.
.#.###.#.#.#.
.#...#...#...
""",
    "SmallCorridor": _corridors(13, (2, 5)),
    "SmallCorridorFar": _corridors(13, (10, 5)),
    "LargeCorridor": _corridors(19, (2, 8)),
    "LargeCorridorFar": _corridors(19, (16, 8)),
}
