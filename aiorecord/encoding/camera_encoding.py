"""Encodes one camera of one captured episode into what the dataset stores, in one process.

Colour and depth videos become ``<camera>.mp4``; `image` features become ``<camera>.png.arrow``, an Arrow IPC
file with one column, named after the camera, of the struct that the Hugging Face `Image` feature stores
(``bytes`` and ``path``). Memory does not grow with the length of the episode: frames are processed one by
one, and only the samples for the statistics (at most 10,000 small frames) are kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from ..encoders import VideoEncoderConfig
from ..errors import DamageError, EncodeError, StateError
from ..features import Feature
from ..media.codecs import check_encoder
from ..media.depth import DepthQuantizer
from ..media.encoder import default_threads
from ..media.evidence import Evidence, Named, read_dataset_id
from ..media.image_files import PngEncoder, tiff_bytes
from ..media.video_file import VideoOutput, encode_frames, probe_video, verify_video
from ..quality import CameraQuality
from ..staging.folder import EpisodeFolder
from ..staging.kinds import KINDS
from ..staging.manifest import Camera, Manifest
from ..staging.staged_file import Extent
from ..system.machine_time import monotonic_s
from ..system.storage import TEMPORARY_SUFFIX, replacing, storage_errors
from ..workers.progress import Progress, progress_path
from .camera_frames import CameraFrames, CapturedFrame, rgb_frame, rgb_pixels
from .encoded import EncodedCamera, file_crc
from .live_copy import copy_live, join_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IMAGE_BATCH_BYTES = 8 << 20


@dataclass(frozen=True)
class EncodeJob:
    """One camera of one captured episode; everything else is read from the manifest.

    Attributes:
        folder: the episode folder.
        camera: the feature key.
        fallback_vcodec: codec to use instead of the manifest's, for colour video; None for the manifest's.
        with_stats: compute the statistics as well. Without, colour video needs no numpy, which a worker
            process then does not load.
    """

    folder: Path
    camera: str
    fallback_vcodec: str | None = None
    with_stats: bool = True


def encode_camera(job: EncodeJob) -> EncodedCamera:
    """Encode and verify one camera of a complete episode. Blocking; made to run in a worker process.

    The result is published under its final name only when it holds every frame. Running it again replaces
    the file. Killing the process leaves a temporary file, which the next run deletes.

    Raises:
        EncodeError: the encoder failed, or the result does not hold every frame.
        DamageError: the capture is not whole.
        CodecUnavailableError: the encoder cannot be opened here.
        StateError: the episode is not complete.
        DatasetError: the manifest cannot be read.
        StorageError: the disk refused.
    """
    started = monotonic_s()
    folder = EpisodeFolder.load(job.folder)
    manifest = folder.manifest
    if job.camera not in manifest.cameras:
        raise EncodeError(f"Episode {folder.id} has no camera {job.camera!r}.", camera=job.camera)
    if manifest.state != "complete" or not manifest.length:
        raise StateError(f"Episode {folder.id} is not complete; there is nothing to encode yet.")
    feature = manifest.schema()[job.camera]
    try:
        with Progress(progress_path(folder, job.camera), manifest.length) as progress:
            frames = CameraFrames(folder, feature, manifest.length, progress, sampled=job.with_stats)
            if feature.is_video:
                file, info = _encode_video(folder, feature, frames, job.fallback_vcodec)
            else:
                file, info = _encode_images(folder, feature, frames), {}
            stats = frames.stats() if job.with_stats else {}
    except EncodeError as error:
        error.camera = error.camera or job.camera
        raise
    return EncodedCamera(
        key=job.camera,
        file=file.name,
        frames=manifest.length,
        bytes=file.stat().st_size,
        info=info,
        stats=stats,
        seconds=monotonic_s() - started,
        fallback_vcodec=job.fallback_vcodec,
        crc32=file_crc(file),
        corrupt=frames.corrupt + _corrupt_in_capture(manifest, job.camera),
    )


def _corrupt_in_capture(manifest: Manifest, key: str) -> int:
    """Encoded images that a capture decoded itself and could not, such as one in the final codec."""
    try:
        return CameraQuality.parse(manifest.quality["cameras"][key]).corrupt
    except (KeyError, TypeError, ValueError):  # older, or interrupted before it was noted
        return 0


def direct_encode(
    frames: Iterable[NDArray[np.uint8]],
    path: Path,
    encoder: VideoEncoderConfig,
    fps: int,
    threads: int | None = None,
) -> int:
    """Encode RGB frames at once, without capturing them first. A deferred encode must give the same video.

    Args:
        frames: (H, W, 3) uint8 each, at least one.
        path: the MP4 to write.
        encoder: settings of the video.
        fps: frames per second.
        threads: threads of the encoder, None leaves it to the codec.

    Returns:
        The number of frames.

    Raises:
        EncodeError: there is no frame, or the encoder failed.
        StorageError: the disk refused.
    """
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise EncodeError("There is no frame to encode.", codec=encoder.vcodec)
    height, width = first.shape[:2]
    output = VideoOutput(path, encoder, width, height, fps, threads)
    return encode_frames(map(rgb_frame, chain((first,), rest)), output)


def _encode_video(
    folder: EpisodeFolder, feature: Feature, frames: CameraFrames, fallback_vcodec: str | None
) -> tuple[Path, dict[str, Any]]:
    manifest = folder.manifest
    camera = manifest.cameras[feature.key]
    configured: VideoEncoderConfig = manifest.depth_encoder if feature.is_depth else manifest.rgb_encoder
    width, height, fps = camera.width, camera.height, manifest.fps
    if fallback_vcodec is None:
        encoder = replace(configured, vcodec=resolved_codec(configured, width, height, fps))
    else:
        encoder = fallback_encoder(configured, fallback_vcodec)
    threads = manifest.encoder_threads or default_threads(encoder, len(manifest.cameras))
    evidence = _evidence(folder, feature.key)
    if KINDS[camera.capture].is_final and fallback_vcodec is None:
        final = folder.path / f"{feature.key}.mp4"
        with _publishing(final) as temporary:
            _finish_live(folder, camera, frames, temporary, encoder, threads, evidence)
            verify_video(temporary, manifest.length or 0, fps)
            return final, probe_video(temporary, encoder)
    quantizer = DepthQuantizer(manifest.depth_encoder)

    def depth_frame(frame: CapturedFrame) -> av.VideoFrame:
        assert isinstance(frame, np.ndarray)
        return quantizer.frame(frame)

    with _publishing(folder.path / f"{feature.key}.mp4") as temporary:
        output = VideoOutput(temporary, encoder, width, height, fps, threads, evidence)
        count = encode_frames(map(depth_frame if feature.is_depth else rgb_frame, frames), output)
        verify_video(temporary, count, fps)
        info = probe_video(temporary, encoder)
    return folder.path / f"{feature.key}.mp4", info


def fallback_encoder(encoder: VideoEncoderConfig, vcodec: str) -> VideoEncoderConfig:
    """Settings for another codec: the same pixel format, keyframes and crf, without codec-specific options.

    Args:
        encoder: the configured settings.
        vcodec: the other codec.
    """
    return replace(encoder, vcodec=vcodec, preset=None, extra_options={})


def _finish_live(
    folder: EpisodeFolder,
    camera: Camera,
    frames: CameraFrames,
    output: Path,
    encoder: VideoEncoderConfig,
    threads: int | None,
    evidence: Evidence,
) -> None:
    """Copy the frames captured in the final codec, and encode only the spilled ones."""
    fps, length = folder.manifest.fps, folder.manifest.length or 0
    head = output.with_name(output.name.removesuffix(TEMPORARY_SUFFIX) + f".head{TEMPORARY_SUFFIX}")
    try:
        extent = Extent()
        source = folder.path / camera.file
        checked = folder.manifest.has_sums
        copied = copy_live(source, head, fps, length, evidence, checked=checked, extent=extent)
        if extent.fault is not None and copied < min(length, camera.frames or length):
            raise DamageError(f"{source} is damaged: {extent.fault}.", path=source)
        rest = map(rgb_frame, frames.after(copied))
        if copied < length:
            size = camera.width, camera.height
            join_tail(
                head,
                copied,
                rest,
                output,
                encoder=encoder,
                size=size,
                fps=fps,
                threads=threads,
                evidence=evidence,
            )
            return
        for _ in rest:  # for the statistics, where the capture could not take them
            pass
        head.replace(output)
    finally:
        head.unlink(missing_ok=True)


def _evidence(folder: EpisodeFolder, key: str) -> Evidence:
    """The description stored in the video; its location in the dataset is not part of it."""
    dataset = read_dataset_id(folder.path.parents[2])  # <root>/.aiorecord/episodes/<id>
    return Evidence((Named(folder.id, folder.manifest.length or 0, dataset),), key)


def resolved_codec(encoder: VideoEncoderConfig, width: int, height: int, fps: int) -> str:
    """The encoder's name; ``auto`` is resolved by a trial here, if it was not before."""
    return check_encoder(encoder, width, height, fps) if encoder.vcodec == "auto" else encoder.vcodec


def _encode_images(folder: EpisodeFolder, feature: Feature, frames: CameraFrames) -> Path:
    # Imported here, because workers that only encode video then save its 30 MB.
    import pyarrow as pa

    camera = folder.manifest.cameras[feature.key]
    struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([pa.field(feature.key, struct_type)])
    suffix = "tiff" if feature.is_depth else "png"
    png = None if feature.is_depth else PngEncoder(camera.width, camera.height)
    final = folder.path / f"{feature.key}.png.arrow"
    with _publishing(final) as temporary:
        batch: list[dict[str, Any]] = []
        size = 0
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for index, frame in enumerate(frames):
                data = png.encode(rgb_pixels(frame)) if png is not None else _tiff(frame, camera)
                # lerobot's names, which its readers ignore.
                batch.append({"bytes": data, "path": f"frame-{index:06d}.{suffix}"})
                size += len(data)
                if size >= _IMAGE_BATCH_BYTES:
                    writer.write_batch(pa.record_batch([pa.array(batch, struct_type)], schema=schema))
                    batch, size = [], 0
            if batch:
                writer.write_batch(pa.record_batch([pa.array(batch, struct_type)], schema=schema))
    return final


def _tiff(frame: CapturedFrame, camera: Camera) -> bytes:
    if not isinstance(frame, np.ndarray) or frame.shape != (camera.height, camera.width):
        raise EncodeError(f"A captured depth map is not {camera.width}x{camera.height}.")
    return tiff_bytes(frame)


@contextlib.contextmanager
def _publishing(final: Path) -> Iterator[Path]:
    """`storage.replacing`, after deleting the leftovers of a killed encode of the same file."""
    with storage_errors(final, "clean up before writing"):
        for entry in final.parent.iterdir():
            if entry.name.startswith(f".{final.name}.") and entry.name.endswith(TEMPORARY_SUFFIX):
                entry.unlink(missing_ok=True)
    with replacing(final) as temporary:
        yield temporary
