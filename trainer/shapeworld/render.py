"""Drawing of scenes with numpy: analytic shapes and textures, for a frame at any time and of any size.

Coordinates are fractions of the frame's side, y down. Arrays of one frame: H = W = size pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from trainer.shapeworld.scene import Rendering, Scene

Array = npt.NDArray[Any]
Frames = npt.NDArray[np.uint8]

SUBJECT_RGB = {
    "red": (222, 45, 48), "yellow": (247, 208, 40), "green": (44, 176, 80),
    "blue": (45, 100, 232), "purple": (152, 66, 200), "white": (246, 246, 246),
}  # fmt: skip

# Two tones for each place and palette. Palettes 0-2 are drawn in training, 3 and 4 only in the unseen rendering.
PLACE_RGB = {
    "checkerboard": [((118, 150, 190), (226, 232, 240)), ((160, 130, 180), (238, 230, 240)),
                     ((120, 170, 165), (230, 240, 235)), ((190, 150, 110), (245, 235, 215)),
                     ((150, 160, 100), (238, 240, 220))],
    "stripes": [((232, 170, 120), (250, 226, 196)), ((230, 150, 160), (250, 222, 224)),
                ((210, 180, 90), (246, 236, 190)), ((140, 190, 220), (220, 238, 248)),
                ((170, 200, 130), (232, 244, 214))],
    "bricks": [((176, 92, 70), (214, 200, 188)), ((160, 104, 84), (220, 210, 196)),
               ((186, 110, 62), (226, 214, 190)), ((140, 96, 100), (204, 198, 200)),
               ((170, 130, 100), (232, 226, 214))],
    "meadow": [((104, 172, 84), (250, 236, 150)), ((128, 184, 92), (250, 214, 226)),
               ((92, 160, 100), (246, 246, 246)), ((150, 180, 70), (250, 190, 120)),
               ((110, 170, 130), (240, 220, 250))],
    "sea": [((52, 120, 190), (170, 214, 240)), ((40, 140, 180), (180, 230, 236)),
            ((70, 110, 200), (190, 210, 246)), ((50, 150, 160), (196, 240, 228)),
            ((90, 130, 180), (220, 230, 240))],
    "starry sky": [((62, 56, 120), (255, 246, 214)), ((48, 66, 120), (240, 246, 255)),
                   ((80, 52, 110), (255, 236, 240)), ((40, 76, 100), (255, 250, 220)),
                   ((92, 60, 90), (244, 240, 255))],
}  # fmt: skip

_SEPIA = np.array([1.10, 0.88, 0.62], np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_GRAIN_CELLS = 64
_PIXEL_BLOCKS = 20


def render(scene: Scene, times: npt.NDArray[np.float64], size: int = 256) -> Frames:
    """Draw frames of a scene.

    Args:
        times: (T,) seconds from the clip's start.
        size: side of the square frame in pixels.

    Returns:
        (T, size, size, 3) uint8 RGB.
    """
    return np.stack([_frame(scene, float(time), size) for time in times])


def _frame(scene: Scene, time: float, size: int) -> Frames:
    """Draw one frame (size, size, 3) uint8; one at a time, since its arrays stay in the processor's cache."""
    drawn = _PIXEL_BLOCKS if scene.style == "pixelated" else size
    progress = np.float32(time / scene.rendering.seconds)
    axis = (np.arange(drawn, dtype=np.float32) + 0.5) / drawn
    shake_x, shake_y = _shake(scene, time)
    x, y = axis[None, :] + shake_x, axis[:, None] + shake_y
    ground = _ground(scene, x, y, progress)
    cover, shade = _subject(scene, x, y, progress, drawn)
    paint = np.array(SUBJECT_RGB[scene.colour], np.float32) * shade[..., None]
    if scene.light == "dim":
        ground = ground * 0.42
    ground, paint = _tint(scene.style, ground, 0.0), _tint(scene.style, paint, 0.45)
    frame = ground + (paint - ground) * cover[..., None]
    if scene.style == "grain":
        frame = frame + _grain(scene, time, size)
    pixels = np.clip(frame, 0, 255).astype(np.uint8)
    if drawn != size:
        index = np.arange(size) * drawn // size
        pixels = pixels[index][:, index]
    return pixels


def frame_times(scene: Scene) -> npt.NDArray[np.float64]:
    """Return the presentation times (T,) in seconds of every frame of the scene's clip."""
    return np.arange(round(scene.rendering.seconds * scene.rendering.fps)) / scene.rendering.fps


def _tint(style: str, rgb: Array, kept: float) -> Array:
    if style not in ("grayscale", "sepia"):
        return rgb
    grey = (rgb @ _LUMA)[..., None]
    toned = grey * _SEPIA if style == "sepia" else np.repeat(grey, 3, axis=-1)
    return toned + (rgb - toned) * kept


def _shake(scene: Scene, time: float) -> tuple[np.float32, np.float32]:
    if scene.camera != "shake":
        return np.float32(0), np.float32(0)
    phase = scene.rendering.seed % 97
    x = np.sin(time * 31.0 + phase) + 0.6 * np.sin(time * 53.0 + 2 * phase)
    y = np.sin(time * 37.0 + 3 * phase) + 0.6 * np.sin(time * 59.0 + phase)
    return np.float32(0.028 * x), np.float32(0.028 * y)


def _grain(scene: Scene, time: float, size: int) -> Array:
    """Draw coarse film grain, a new pattern ten times a second; its cells survive the model's small frames."""
    index = np.arange(size) * _GRAIN_CELLS // size
    noise = np.random.default_rng((scene.rendering.seed, int(time * 10))).standard_normal((_GRAIN_CELLS, _GRAIN_CELLS))
    return (noise.astype(np.float32) * 20)[index][:, index][..., None]


def _ground(scene: Scene, x: Array, y: Array, progress: np.float32) -> Array:
    travel = 0.5 * scene.rendering.tempo * (progress - 0.5)
    zoom = 1 + 0.6 * scene.rendering.tempo * progress
    if scene.camera == "pan left":
        x = x - travel
    elif scene.camera == "pan right":
        x = x + travel
    elif scene.camera in ("zoom in", "zoom out"):
        if scene.camera == "zoom out":
            zoom = 1 + 0.6 * scene.rendering.tempo * (1 - progress)
        x, y = (x - 0.5) / zoom + 0.5, (y - 0.5) / zoom + 0.5
    offset = (scene.rendering.seed % 1000) / 250
    amount = _TEXTURES[scene.place](x + offset + 8, y + 8, scene.rendering)
    first, second = (np.array(tone, np.float32) for tone in PLACE_RGB[scene.place][scene.rendering.palette])
    ground: Array = first + (second - first) * amount[..., None]
    return ground


def _hash(column: Array, row: Array, salt: int) -> Array:
    """Return a stable pseudo-random number in 0 .. 1 for each cell."""
    value = np.sin(column * 127.1 + row * 311.7 + salt * 74.7) * 43758.5453
    return (value - np.floor(value)).astype(np.float32)


def _scale(rendering: Rendering, train: float, unseen: float) -> float:
    return unseen if rendering.texture == 1 else train


def _checkerboard(x: Array, y: Array, rendering: Rendering) -> Array:
    cell = _scale(rendering, 0.20, 0.26)
    return ((np.floor(x / cell) + np.floor(y / cell)) % 2).astype(np.float32)


def _stripes(x: Array, y: Array, rendering: Rendering) -> Array:
    period = _scale(rendering, 0.28, 0.36)
    return (np.sin(2 * np.pi * (x + 0.6 * y) / period) * 4 + 0.5).clip(0, 1).astype(np.float32)


def _bricks(x: Array, y: Array, rendering: Rendering) -> Array:
    width = _scale(rendering, 0.30, 0.38)
    height = width / 2.2
    row = np.floor(y / height)
    column = np.floor(x / width + 0.5 * (row % 2))
    across, down = x / width + 0.5 * (row % 2) - column, y / height - row
    mortar = (across < 0.07) | (down < 0.14)
    return np.where(mortar, 1.0, 0.45 * _hash(column, row, 3) - 0.15).astype(np.float32)


def _dots(x: Array, y: Array, cell: float, radius: float, salt: int, share: float) -> Array:
    column, row = np.floor(x / cell), np.floor(y / cell)
    centre_x = 0.3 + 0.4 * _hash(column, row, salt)
    centre_y = 0.3 + 0.4 * _hash(column, row, salt + 1)
    distance = np.hypot(x / cell - column - centre_x, y / cell - row - centre_y)
    there = _hash(column, row, salt + 2) < share
    return np.where(there, ((radius - distance) * 12 + 0.5).clip(0, 1), 0).astype(np.float32)


def _meadow(x: Array, y: Array, rendering: Rendering) -> Array:
    tufts = 0.10 * np.sin(38 * x + 3 * np.sin(9 * y)) * np.sin(31 * y + 2 * np.sin(11 * x))
    amount: Array = (tufts - 0.05 + _dots(x, y, _scale(rendering, 0.17, 0.22), 0.24, 5, 0.7)).astype(np.float32)
    return amount


def _sea(x: Array, y: Array, rendering: Rendering) -> Array:
    row_height = _scale(rendering, 0.15, 0.19)
    row = np.floor(y / row_height)
    crest = 0.5 + 0.3 * np.sin(2 * np.pi * x / (2.2 * row_height) + 2.4 * row)
    return (1 - np.abs(y / row_height - row - crest) * 5).clip(0, 1).astype(np.float32)


def _starry_sky(x: Array, y: Array, rendering: Rendering) -> Array:
    return np.maximum(
        _dots(x, y, _scale(rendering, 0.14, 0.18), 0.17, 11, 0.55), 0.7 * _dots(x + 3.3, y + 1.7, 0.09, 0.14, 17, 0.3)
    )


_TEXTURES = {
    "checkerboard": _checkerboard, "stripes": _stripes, "bricks": _bricks,
    "meadow": _meadow, "sea": _sea, "starry sky": _starry_sky,
}  # fmt: skip


def _subject(scene: Scene, x: Array, y: Array, progress: np.float32, pixels: int) -> tuple[Array, Array]:
    """Return cover (H, W) in 0 .. 1 and shade (H, W) as a factor on the subject's colour."""
    centre_x, centre_y, radius, angle = _motion(scene, progress)
    dx, dy = (x - centre_x) / radius, (y - centre_y) / radius
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    distance = _SHAPES[scene.shape](u, v) * radius * pixels
    cover = (0.5 - distance).clip(0, 1)
    # One half is darker, so that turning shows on every shape; a dark rim keeps it apart from any ground.
    shade = 1 - 0.38 * (v * radius * pixels + 0.5).clip(0, 1)
    rim = (distance + 0.022 * pixels).clip(0, 1)
    return cover.astype(np.float32), (shade * (1 - 0.72 * rim)).astype(np.float32)


def _motion(scene: Scene, progress: np.float32) -> tuple[float, float, float, float]:
    """Return centre x and y, radius and angle of the subject at a share of the clip."""
    rendering = scene.rendering
    x, y, radius, angle = rendering.x, rendering.y, rendering.radius, rendering.tilt
    travel = 0.5 * rendering.tempo * (float(progress) - 0.5)
    match scene.dynamics:
        case "moves left":
            x -= travel
        case "moves right":
            x += travel
        case "moves up":
            y -= travel
        case "moves down":
            y += travel
        case "bounces":
            y += 0.16 - 0.36 * abs(np.sin(np.pi * 2 * rendering.tempo * float(progress)))
        case "spins":
            angle += 2 * np.pi * 1.1 * rendering.tempo * float(progress)
        case "grows":
            radius *= 0.55 + 0.95 * float(progress)
        case "shrinks":
            radius *= 1.5 - 0.95 * float(progress)
    return x, y, radius, angle


def _circle(u: Array, v: Array) -> Array:
    return np.hypot(u, v) - 0.95


def _square(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(v)) - 0.82


def _triangle(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u) * 0.866 - (v - 0.1) * 0.5 - 0.5 - 0.05, v - 0.65) * 0.95 + 0.02


def _star(u: Array, v: Array) -> Array:
    turn = np.arctan2(u, -v)
    wedge = np.abs((turn + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    length = np.hypot(u, v)
    px, py = length * np.cos(wedge), length * np.sin(wedge)
    # The edge from a tip (1.1, 0) to an inner corner at 36 degrees.
    inner_x, inner_y = 0.46 * np.cos(np.pi / 5), 0.46 * np.sin(np.pi / 5)
    normal_x, normal_y = inner_y, 1.1 - inner_x
    distance: Array = ((px - 1.1) * normal_x + py * normal_y) / np.hypot(normal_x, normal_y)
    return distance


def _cross(u: Array, v: Array) -> Array:
    a, b = np.abs(u), np.abs(v)
    return np.maximum(np.minimum(a, b) - 0.32, np.maximum(a, b) - 0.98)


def _heart(u: Array, v: Array) -> Array:
    a, v = np.abs(u), v + 0.06
    lobes = np.hypot(a - 0.46, v + 0.32) - 0.52
    point = np.maximum((a + v - 0.90) * 0.7071, -0.32 - v)
    return np.minimum(lobes, point)


_SHAPES = {
    "circle": _circle, "square": _square, "triangle": _triangle,
    "star": _star, "cross": _cross, "heart": _heart,
}  # fmt: skip
