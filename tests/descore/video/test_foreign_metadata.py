"""A title in another encoding than UTF-8 keeps no video from being read; PyAV's versions differ in how that is said."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from descore.video.demux import open_container


def test_a_title_that_is_not_utf_8_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLEXX"
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"TITLEXX", b"TIT\xff\xfeXX"))
    with open_container(str(path)) as opened:
        assert "TIT" in opened.metadata["title"]
        assert len(opened.streams.video) == 1
