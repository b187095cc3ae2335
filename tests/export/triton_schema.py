"""Triton's `ModelConfig` as far as a repository of ours uses it, for a parse by protobuf itself.

Names, numbers, types and oneofs are those of Triton's public `model_config.proto`; any other field is an error.
"""

from __future__ import annotations

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "inference"

DATA_TYPES = (
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "STRING", "BF16",
)  # fmt: skip

MESSAGES = {
    "ModelConfig": """
        1 name string, 2 platform string, 17 backend string, 3 version_policy ModelVersionPolicy,
        4 max_batch_size int32, 5 input ModelInput*, 6 output ModelOutput*, 14 parameters map:ModelParameter,
        7 instance_group ModelInstanceGroup*, 11 dynamic_batching ModelDynamicBatching/scheduling_choice,
        15 ensemble_scheduling ModelEnsembling/scheduling_choice, 16 model_warmup ModelWarmup*
    """,
    "ModelVersionPolicy": "1 latest Latest/policy_choice, 3 specific Specific/policy_choice",
    "Latest": "1 num_versions uint32",
    "Specific": "1 versions int64*",
    "ModelInput": "1 name string, 2 data_type DataType, 4 dims int64*, 7 allow_ragged_batch bool",
    "ModelOutput": "1 name string, 2 data_type DataType, 3 dims int64*",
    "ModelParameter": "1 string_value string",
    "ModelInstanceGroup": "1 name string, 2 count int32",
    "ModelDynamicBatching": """
        1 preferred_batch_size int32*, 2 max_queue_delay_microseconds uint64, 3 preserve_ordering bool
    """,
    "ModelEnsembling": "1 step Step*",
    "Step": "1 model_name string, 2 model_version int64, 3 input_map map:string, 4 output_map map:string",
    "ModelWarmup": "1 name string, 2 batch_size uint32, 3 inputs map:Input, 4 count uint32",
    "Input": """
        1 data_type DataType, 2 dims int64*, 3 zero_data bool/input_data_type,
        4 random_data bool/input_data_type, 5 input_data_file string/input_data_type
    """,
}


def parse_config(text: str) -> Message:
    """The configuration `text`.

    Raises:
        google.protobuf.text_format.ParseError: it is not one.
    """
    config = _MODEL_CONFIG()
    text_format.Parse(text, config)
    return config


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="model_config.proto", package=PACKAGE, syntax="proto3")
    data_type = file.enum_type.add(name="DataType")
    for number, name in enumerate(DATA_TYPES):
        data_type.value.add(name=f"TYPE_{name}", number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for written in fields.split(","):
            number, field, type_ = written.split()
            _add_field(message, int(number), field, type_)
    return file


def _add_field(message: DescriptorProto, number: int, name: str, written: str) -> None:
    written, _, choice = written.partition("/")
    field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    if written.endswith("*"):
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if choice:
        names = [oneof.name for oneof in message.oneof_decl]
        if choice not in names:
            message.oneof_decl.add(name=choice)
        field.oneof_index = [*names, choice].index(choice)
    if written.startswith("map:"):
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, "key", "string")
        _add_field(entry, 2, "value", written.removeprefix("map:"))
        field.label = FieldDescriptorProto.LABEL_REPEATED
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{message.name}.{entry.name}"
    else:
        _set_type(field, written.removesuffix("*"))


def _set_type(field: FieldDescriptorProto, written: str) -> None:
    if written in MESSAGES or written == "DataType":
        field.type = (
            FieldDescriptorProto.TYPE_MESSAGE if written in MESSAGES else FieldDescriptorProto.TYPE_ENUM
        )
        field.type_name = f".{PACKAGE}.{written}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{written.upper()}")


_POOL = DescriptorPool()
_POOL.Add(_file())
_MODEL_CONFIG = GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.ModelConfig"))
