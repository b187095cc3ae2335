"""Every setting of the server: a field, and an environment variable `TESSERA_<FIELD>`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import StartError
from service.logs import LogFormat
from service.security.hosts import read_hosts
from service.validation import faults
from tessera.cores import available_cores
from tessera.devices import DEVICE_RULE, Device, GpuSettings
from tessera.errors import RuntimeUnavailable
from tessera.limits import Limits

_PREFIX = "TESSERA_"
_INPUT = Limits()
_REDIS_SCHEMES = ("redis", "rediss", "unix")


def _limit(default: float, unit: str, description: str) -> Any:
    """A bound that `GET /limits` shows."""
    return Field(
        default, gt=0, allow_inf_nan=False, description=description, json_schema_extra={"limit_unit": unit}
    )


class Settings(BaseSettings):
    """How to serve and how much to accept. Every limit is finite."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", frozen=True)

    bundle: str | None = Field(
        None,
        description="Folder of the bundle, or hf://owner/name; without one, the demo bundle. Several are separated by "
        "semicolons, each SOURCE[,name=N][,device=D][,threads=T][,weight=W]; the first answers where none is named.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    api_keys_file: Path | None = Field(
        None,
        description="File of keys, a line each, as `tessera key new` prints them; read again when it changes.",
    )
    api_keys: str | None = Field(
        None,
        repr=False,
        description="The lines themselves, separated by semicolons; without any key, all may ask.",
    )
    url_hosts: str = Field(
        "",
        description="Hosts that URL inputs may name, separated by commas, each HOST[:PORT]; private:HOST may have "
        "private addresses. Without any, no URL is fetched.",
    )
    admin_port: int | None = Field(
        None, ge=1, le=65535, description="Where /metrics is; without one, on the main port."
    )
    device: str = Field(
        "cpu", description="Where the graphs run: cpu, cuda, tensorrt, or one GPU, as cuda:1."
    )
    gpu_memory_mb: int | None = Field(
        None, ge=1, description="Memory of a GPU for the graphs of this process; without, all there is."
    )
    engine_cache: Path | None = Field(
        None, description="Folder of the engines that TensorRT builds; without, in the user's cache."
    )
    threads: int | None = Field(
        None, ge=1, description="Processor threads of a graph; without, the cores it may use."
    )
    decode_workers: int | None = Field(
        None, ge=1, le=256, description="Decoders that work at a time; without, one per core."
    )
    decode_memory_mb: int = Field(
        1024, ge=64, description="Memory that a decoder may take, beyond what it begins with."
    )
    decode_seconds: float = Field(
        60,
        gt=0,
        allow_inf_nan=False,
        description="Decoding of one part of a clip; then its decoder is killed.",
    )
    decode_clips: int = Field(
        100, ge=1, description="Clips that a decoder reads before another takes its place."
    )
    frontends: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that speak HTTP and decode; with more than one, another one owns the device.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What is logged; `debug` has every request."
    )
    log_format: LogFormat = Field(
        "auto", description="How: text, json, or auto, which is text on a terminal and JSON elsewhere."
    )
    drift_half_life_segments: int = Field(
        100_000,
        ge=16,
        description="After so many more segments a code counts half for the codebook's metrics.",
    )

    max_batch_segments: int = Field(640, ge=1, description="Segments in one run of a graph, at most.")
    max_batch_seconds: float = Field(
        0.25,
        gt=0,
        allow_inf_nan=False,
        description="What one run of a graph takes, at most, by what it took before.",
    )
    streams: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Batches that run at once on a device; without, two on a processor, one on a GPU.",
    )
    canary_seconds: float = Field(
        30,
        gt=0,
        allow_inf_nan=False,
        description="An idle device is tried so often, with a small real batch.",
    )
    stall_seconds: float = Field(
        120, gt=0, allow_inf_nan=False, description="A batch that takes longer is hung."
    )
    shutdown_delay_seconds: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        description="Serve on this long after SIGTERM, not ready, for balancers.",
    )
    drain_seconds: int = Field(
        30, ge=1, description="Finish what was admitted within this time after SIGTERM."
    )

    cache_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="Codes of inputs that were tokenised before, in memory; 0 turns every cache off.",
        json_schema_extra={"limit_unit": "bytes"},
    )
    redis_url: SecretStr | None = Field(
        None, description="redis://, rediss:// or unix:// of a Redis in which replicas share codes."
    )
    redis_connect_timeout_ms: int = Field(
        200, ge=1, le=60_000, description="To connect to Redis; a request may wait so long."
    )
    redis_timeout_ms: int = Field(
        50, ge=1, le=60_000, description="For an answer of Redis; a request may wait so long."
    )
    redis_ttl_seconds: int = Field(
        7 * 24 * 3600, ge=1, le=2**31 - 1, description="Redis forgets codes after this time."
    )
    redis_failures: int = Field(
        3, ge=1, le=1000, description="Failures of Redis in a row until it is left out."
    )
    redis_retry_seconds: float = Field(
        5,
        gt=0,
        allow_inf_nan=False,
        description="A Redis that is left out is tried so often, by no request.",
    )

    max_body_bytes: int = _limit(96 * 2**20, "bytes", "One request body.")
    max_held_bytes: int = _limit(
        384 * 2**20, "bytes", "All request bodies that are being answered, and large answers."
    )
    max_inputs: int = _limit(64, "inputs", "Inputs of one request.")
    max_parts: int = _limit(256, "parts", "Parts of one multipart body.")
    max_json_depth: int = _limit(32, "levels", "Lists and objects within each other in a JSON body.")
    max_json_values: int = _limit(262_144, "values", "Values in one JSON body; parsing holds up everybody.")
    max_request_segments: int = _limit(36_000, "segments", "Segments of all inputs of one request.")
    max_codes_segments: int = _limit(65_536, "segments", "Segments of one /detokenize request.")
    max_queue_seconds: float = _limit(
        20, "seconds", "Admitted work of a device, by what such work took before."
    )
    max_queue_bytes: int = _limit(2**30, "bytes", "Decoded inputs of all admitted work.")
    max_open_media: int = _limit(16, "inputs", "Audio and video inputs that are being decoded at once.")
    max_stream_windows: int = _limit(4, "windows", "Windows of one long input that are decoded at a time.")
    request_timeout_seconds: float = _limit(120, "seconds", "Time of a request that does not state its own.")
    max_request_timeout_seconds: float = _limit(900, "seconds", "What X-Request-Timeout-Ms may ask for.")
    max_connections: int = _limit(
        2048, "connections", "Clients that are connected; those that wait longest for theirs give way."
    )
    max_head_bytes: int = _limit(65_536, "bytes", "Head of a request: its first line and its headers.")
    max_silence_seconds: float = _limit(20, "seconds", "Until a client sends, or reads, what it began to.")
    max_transfer_seconds: float = _limit(120, "seconds", "Until a request is sent, or an answer is read.")

    max_request_urls: int = _limit(8, "inputs", "Inputs of one request that are fetched from URLs.")
    max_open_urls: int = _limit(16, "inputs", "URLs that are being fetched at once.")
    max_url_chars: int = _limit(8192, "characters", "One URL.")
    max_url_seconds: float = _limit(30, "seconds", "Fetching one URL.")
    key_requests_per_minute: float = _limit(
        60_000, "requests a minute", "Requests of a key that has no rate of its own."
    )
    key_segments_per_minute: float = _limit(
        600_000, "segments a minute", "Segments that a key tokenises which has no rate of its own."
    )

    max_media_bytes: int = _limit(_INPUT.max_media_bytes, "bytes", "One audio or video input.")
    max_media_seconds: float = _limit(
        _INPUT.max_media_seconds, "seconds", "Length of one audio or video input."
    )
    max_media_streams: int = _limit(_INPUT.max_media_streams, "streams", "Streams in one container.")
    max_video_pixels: int = _limit(_INPUT.max_video_pixels, "pixels", "Width times height of a picture.")
    max_video_frames: int = _limit(_INPUT.max_video_frames, "frames", "Frames of one video.")
    max_text_chars: int = _limit(_INPUT.max_text_chars, "characters", "One text.")

    @field_validator("device")
    @classmethod
    def _device_has_a_name(cls, value: str) -> str:
        try:
            return str(Device.parse(value))
        except RuntimeUnavailable:
            raise ValueError(DEVICE_RULE) from None

    @field_validator("redis_url")
    @classmethod
    def _redis_has_a_url(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            parts = urlsplit(value.get_secret_value()) if value else None
            if parts is None or (parts.scheme in _REDIS_SCHEMES and parts.port != 0):
                return value
        except ValueError:
            pass
        # It may hold a password, so it is not said again.
        raise ValueError("must be a URL that begins with redis://, rediss:// or unix://")

    @field_validator("url_hosts")
    @classmethod
    def _url_hosts_are_hosts(cls, value: str) -> str:
        read_hosts(value)
        return value

    @model_validator(mode="after")
    def _whole_requests_fit(self) -> Self:
        if self.max_held_bytes < self.max_body_bytes:
            raise ValueError(
                f"contradict: {setting_name('max_held_bytes')} is below {setting_name('max_body_bytes')}"
            )
        return self

    @model_validator(mode="after")
    def _every_front_end_has_its_share(self) -> Self:
        for name in ("max_open_media", "max_open_urls", "max_connections"):
            if getattr(self, name) < self.frontends:
                raise ValueError(f"contradict: {setting_name(name)} is below {setting_name('frontends')}")
        return self

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """The settings of the environment, flags that were given before them.

        Raises:
            StartError: a value cannot be taken; says which and why.
        """
        try:
            return cls(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            fault = faults(error)[0]
            name = setting_name(fault.param) if fault.param else "the settings"
            raise StartError(f"{name} {fault.sentence}") from None

    @property
    def limits(self) -> Limits:
        """The bounds on one input."""
        return Limits(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Limits)})

    @property
    def gpu(self) -> GpuSettings:
        """What the graphs may take of a GPU."""
        return GpuSettings(self.gpu_memory_mb * 2**20 if self.gpu_memory_mb else None, self.engine_cache)

    @property
    def workers(self) -> int:
        """Decoders that work at a time."""
        return self.decode_workers or available_cores()


def setting_name(field: str) -> str:
    """The environment variable of a field."""
    return _PREFIX + field.upper()


def limit_documents(settings: Settings) -> list[dict[str, Any]]:
    """Every limit with its value and its setting, as `GET /limits` shows them."""
    documents = []
    for name, field in type(settings).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "limit_unit" in extra:
            documents.append(
                {
                    "name": name,
                    "value": getattr(settings, name),
                    "unit": extra["limit_unit"],
                    "setting": setting_name(name),
                    "description": field.description,
                }
            )
    return documents
