"""Draws docs/update.svg: one update of the loop."""

from __future__ import annotations

from html import escape

WIDTH, HEIGHT = 960, 470
# Fill and stroke of the plugs; a plug has one colour wherever it acts.
COLOURS = {
    "worlds": ("#e3f1e5", "#2e7d32"),
    "env": ("#eceff1", "#546e7a"),
    "agent": ("#e3ecfb", "#1a56b0"),
    "bonus": ("#fdeedd", "#c05a00"),
    "data": ("#ffffff", "#616161"),
}


def _text(
    x: float, y: float, text: str, *, size: int = 13, anchor: str = "middle", **more: str
) -> str:
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{extra}>'
        f"{escape(text)}</text>"
    )


def _box(plug: str, x: int, y: int, width: int, height: int, title: str, *lines: str) -> str:
    fill, stroke = COLOURS[plug]
    dashed = ' stroke-dasharray="4 3"' if plug == "data" else ""
    parts = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{fill}"'
        f' stroke="{stroke}" stroke-width="1.5"{dashed}/>',
        _text(x + width / 2, y + 21, title, font_weight="600", fill=stroke),
    ]
    parts += [
        _text(x + width / 2, y + 40 + 16 * i, line, size=12, fill="#333")
        for i, line in enumerate(lines)
    ]
    return "\n".join(parts)


def _arrow(*points: tuple[int, int]) -> str:
    path = " ".join(f"{x},{y}" for x, y in points)
    style = 'fill="none" stroke="#444" stroke-width="1.5" marker-end="url(#tip)"'
    return f'<polyline points="{path}" {style}/>'


def update_picture() -> str:
    """The SVG of one update: levels -> rollout -> score -> learn, three times."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" role="img">',
        "<title>One update of the loop</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#444"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(24, 32, "One update: TrainState -> TrainState, metrics", size=16, anchor="start"),
        # Levels.
        _box(
            "worlds",
            24,
            62,
            190,
            76,
            "1  WorldSampler.sample",
            "which levels are entered:",
            "levels, level_id [n]",
        ),
        _box(
            "env",
            24,
            178,
            190,
            76,
            "2  reset_to_level",
            "initial states and observations",
            "of all n levels, once",
        ),
        _arrow((119, 138), (119, 176)),
        # Rollout.
        '<rect x="262" y="52" width="360" height="232" rx="10" fill="none" stroke="#9e9e9e"/>',
        _text(442, 74, "3  rollout: a scan over T steps of N envs", fill="#444"),
        _box("agent", 282, 90, 140, 60, "Agent.act", "action, extras"),
        _box("env", 462, 90, 140, 60, "Environment.step", "TimeStep, raw"),
        _box("data", 352, 208, 180, 60, "auto-reset", "a gather where one ended"),
        _arrow((422, 120), (460, 120)),
        _arrow((532, 150), (532, 178), (482, 178), (482, 206)),
        _arrow((402, 208), (402, 178), (352, 178), (352, 152)),
        _text(442, 194, "obs, first", size=12, fill="#333"),
        _arrow((214, 230), (350, 230)),
        # Trajectory.
        _box(
            "data",
            672,
            62,
            264,
            76,
            "Trajectory [T, N, ...]",
            "obs, action, reward, next_obs, first,",
            "terminated, truncated, level_id, ...",
        ),
        _arrow((622, 100), (670, 100)),
        # Score and learn.
        _box(
            "bonus",
            672,
            178,
            264,
            76,
            "4  Bonus.reward",
            "scores the rollout, never learns:",
            "r_int [T, N], a stream of its own",
        ),
        _arrow((804, 138), (804, 176)),
        _box(
            "bonus",
            672,
            320,
            264,
            76,
            "5  Bonus.update",
            "learns from the rollout,",
            "once it is scored",
        ),
        _box("agent", 348, 320, 264, 76, "6  Agent.update", "learns from Trajectory and r_int"),
        _box("worlds", 24, 320, 264, 76, "7  WorldSampler.update", "learns how the levels went"),
        _arrow((804, 254), (804, 318)),
        _arrow((672, 358), (614, 358)),
        _arrow((348, 358), (290, 358)),
        _text(
            WIDTH / 2,
            434,
            "Env states and recurrent carries go on into the next update: no episode is cut.",
            fill="#444",
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
