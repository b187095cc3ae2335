"""What clients send: strict pydantic models. Large arrays stay strings and bytes here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema, model_validator

from tessera.limits import Truncate
from tessera.windows import Modality

Base64 = Annotated[str | bytes, WithJsonSchema({"type": "string", "contentEncoding": "base64"})]
"""Base64 text of a JSON body, or the bytes themselves of a multipart or raw body."""

ReturnField = Literal["codes", "margins", "embeddings", "latents", "pooled"]
EncodingFormat = Literal["base64", "float"]
DType = Literal["float16", "float32"]
Url = Annotated[
    str | None,
    Field(
        None,
        description="Where it is, in place of its content: https, of a host that the server fetches from.",
    ),
]
Data = Annotated[Base64 | None, Field(None, description="The file, in base64.")]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Input(_Document):
    id: str | None = Field(None, max_length=256, description="Yours; it comes back with the answer.")


class _Media(_Input):
    data: Data
    url: Url
    start_sec: float = Field(0.0, ge=0, allow_inf_nan=False, description="Begin at this second of the media.")
    end_sec: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Stop here.  Default: the end."
    )

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.end_sec is not None and self.end_sec <= self.start_sec:
            raise ValueError("must end after it starts: end_sec is not above start_sec")
        return self


class AudioInput(_Media):
    """A sound file."""

    type: Literal["audio"]


class VideoInput(_Media):
    """A film: its picture, or with `track` its sound."""

    type: Literal["video"]
    track: Literal["video", "audio"] = Field(
        "video", description="`audio` tokenises the sound track, as audio."
    )


class TextInput(_Input):
    """A text; one word is one segment."""

    type: Literal["text"]
    text: str | None = None
    url: Url


class FeaturesInput(_Input):
    """Backbone features of one clip, which enter behind the backbone."""

    type: Literal["features"]
    modality: Modality
    dtype: DType = "float32"
    shape: list[Annotated[int, Field(ge=1, le=2**31 - 1)]] = Field(
        min_length=2, max_length=8, description="[segments, ...] as `feature_shapes` of /models says."
    )
    data: Data
    url: Url


Input = Annotated[AudioInput | VideoInput | TextInput | FeaturesInput, Field(discriminator="type")]
INPUT: TypeAdapter[Input] = TypeAdapter(Input)


class TokenizeOptions(_Document):
    """What to do with the inputs, and how to answer."""

    model: str | None = Field(
        None, description="The model that must answer; without, the one that is served."
    )
    returns: list[ReturnField] = Field(["codes"], alias="return", min_length=1, max_length=5)
    encoding_format: EncodingFormat = Field("base64", description="How arrays other than codes are written.")
    dtype: DType = Field("float16", description="The precision of arrays other than codes.")
    truncate: Truncate = Field(
        "none", description="Of an input that is too long, drop nothing, start or end."
    )
    on_error: Literal["fail", "partial"] = Field("fail", description="`partial` answers the good inputs.")


class TokenizeRequest(TokenizeOptions):
    """The body of POST /tokenize."""

    inputs: list[Input] = Field(min_length=1)


class RawQuery(TokenizeOptions):
    """The query of POST /tokenize with a raw body: the options, and the fields of its one input."""

    id: str | None = None
    track: Literal["video", "audio"] | None = None
    start_sec: float | None = None
    end_sec: float | None = None

    @property
    def input_fields(self) -> dict[str, Any]:
        """The fields of the input that were given."""
        return self.model_dump(include={"id", "track", "start_sec", "end_sec"}, exclude_none=True)

    @property
    def options(self) -> TokenizeOptions:
        """The options alone."""
        return _options_of(self)


class FeaturesQuery(TokenizeOptions):
    """The query of POST /tokenize with features as its raw body, little endian: the options, and what the body is."""

    modality: Modality
    dtype: DType = Field("float32", description="Of the body, and of the arrays of the answer.")
    shape: list[Annotated[int, Field(ge=1, le=2**31 - 1)]] = Field(
        min_length=2,
        max_length=8,
        description="[segments, ...] of one clip, or [clips, segments, ...] of clips of equal length.",
    )

    @property
    def options(self) -> TokenizeOptions:
        """The options alone."""
        return _options_of(self)


def _options_of(query: TokenizeOptions) -> TokenizeOptions:
    return TokenizeOptions.model_construct(
        **{name: getattr(query, name) for name in TokenizeOptions.model_fields}
    )


class DetokenizeOptions(_Document):
    """How to answer POST /detokenize."""

    model: str | None = None
    encoding_format: EncodingFormat = "base64"
    dtype: DType = "float16"


class DetokenizeRequest(DetokenizeOptions):
    """The body of POST /detokenize: the codes of one clip."""

    codes: list[list[int]] = Field(min_length=1, description="codes[segment][level]")


class EmbeddingsOptions(_Document):
    """How to answer POST /v1/embeddings: the fields of OpenAI, and `modality`."""

    model: str | None = Field(
        None, description="The model that must answer; without, the one that is served."
    )
    encoding_format: EncodingFormat = Field(
        "float", description="`base64` is of the float32 values, little endian."
    )
    dimensions: int | None = Field(None, description="If given, the width of the model: nothing is cut.")
    modality: Modality = Field(
        "text", description="What the inputs are; for all but text they are media files."
    )
    user: str | None = Field(None, description="Taken for the sake of other clients; not used.")


class EmbeddingsRequest(EmbeddingsOptions):
    """The body of POST /v1/embeddings."""

    input: str | list[str] = Field(
        min_length=1,
        description="Texts; or media files, each as base64 or as a data URL. Token ids are not read.",
    )
