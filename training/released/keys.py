"""What the tensors of released files are called here (docs/models.md 5).

Rules go from the beginnings of our names to the beginnings of theirs; theirs are `module/key`. The longest one decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tessera.windows import Modality
from training.released.archive import ENCODER, SUFFIX, TEXT_LSTM

Rules = dict[str, str]

DECODER, CPC = "Decoder_parameters", "CPC_parameters"

_DEAD = re.compile(
    # The layer that a block's layers were copied from, an attention over an axis of length one, and classifiers
    # without a loss: none of them has an effect on anything.
    r"_self_att(_2)?\.encoder_layer\."
    r"|(video_semantic_encoder|v_gen_encoder)\.(affine_video_ave|affine_video_self|ave_v_att)\."
    rf"|^{DECODER}/(video|audio|text)_semantic_decoder\."
)


def dead_part(name: str) -> str | None:
    """The part of a released model without any effect on what it computes that a tensor belongs to; else None."""
    found = _DEAD.search(name)
    return name[: found.end() - 1] if found else None


def official_name(ours: str, rules: Rules) -> str | None:
    """What a released file calls our tensor; None if it holds no such thing."""
    beginnings = [beginning for beginning in rules if ours.startswith(beginning)]
    if not beginnings:
        return None
    longest = max(beginnings, key=len)
    return rules[longest] + ours.removeprefix(longest)


def dcid_rules(modalities: Iterable[Modality]) -> Rules:
    """DCID, of three modalities or two."""
    modalities = tuple(modalities)
    rules = _first_level("level", modalities) | _codebook("quantizers.0", "Cross_quantizer", "")
    for m in modalities:
        rules |= _predictor(f"level.predictors.{m}", m) | _club(f"level.club.{m}", m)
        rules |= _decoder(f"level.decoders.{m}", m)
    return rules


def hdcid_rules(modalities: Iterable[Modality]) -> Rules:
    """H-DCID: a second level and a codebook for each; files never hold anything but the encoders."""
    modalities = tuple(modalities)
    rules = _first_level("level", modalities)
    for m in modalities:
        rules |= _temporal(f"second.temporal.{m}", f"{m}_self_att_2")
        rules |= _linear(f"second.specific.{m}.linear", f"{m.capitalize()}_encoder_2.input_linear")
    for index in range(2):
        rules |= _codebook(f"quantizers.{index}", "Cross_quantizer", f"[{index}]")
    return rules


def fcid_rules(modalities: Iterable[Modality]) -> Rules:
    """FCID: its parts go by the first letters of the modalities, its fine codebook is switched off."""
    rules = (
        _pooling("fine.pooling", "v_gen_encoder")
        | _video_specific("fine.specific.video", "v_spe_encoder")
        | _linear("fine.specific.audio.linear", "a_spe_encoder.audio_linear")
        | _codebook("quantizers.0", "Cross_quantizer_coarse", "")
    )
    for m in modalities:
        half = "coarse" if m == "text" else "fine"
        rules |= _temporal(f"{half}.temporal.{m}", f"{m[0]}_self_att")
    for branch, short in (("media", "va"), ("text", "t")):
        rules |= _linear(f"coarse.projector.{branch}", f"{short}2vat.linear")
        rules |= _linear(f"coarse.general.{branch}.linear", f"{short}_gen_encoder.input_linear")
        rules |= _linear(f"coarse.specific.{branch}.linear", f"{short}_spe_encoder.input_linear")
    return rules


def _first_level(ours: str, modalities: tuple[Modality, ...]) -> Rules:
    rules: Rules = {}
    for m in modalities:
        rules |= _temporal(f"{ours}.temporal.{m}", f"{m}_self_att")
        if m == "video":
            rules |= _pooling(f"{ours}.pooling", "video_semantic_encoder")
            rules |= _video_specific(f"{ours}.specific.video", "Video_encoder")
        else:
            rules |= _linear(f"{ours}.specific.{m}.linear", f"{m.capitalize()}_encoder.{m}_linear")
    return rules | ({"text_lstm.lstm.": f"{TEXT_LSTM}/"} if "text" in modalities else {})


def _linear(ours: str, theirs: str, module: str = ENCODER) -> Rules:
    return {f"{ours}.": f"{module}/{theirs}."}


def _temporal(ours: str, theirs: str) -> Rules:
    return _linear(f"{ours}.affine", f"{theirs}.affine_matrix") | _linear(
        f"{ours}.layers", f"{theirs}.encoder.layers"
    )


def _pooling(ours: str, theirs: str) -> Rules:
    return _linear(f"{ours}.squeeze", f"{theirs}.se_layer.0") | _linear(
        f"{ours}.excite", f"{theirs}.se_layer.2"
    )


def _residual(ours: str, theirs: str, module: str = ENCODER) -> Rules:
    return _linear(f"{ours}.conv3", f"{theirs}.stack.0.res_block.1", module) | _linear(
        f"{ours}.conv1", f"{theirs}.stack.0.res_block.3", module
    )


def _video_specific(ours: str, theirs: str) -> Rules:
    return (
        _linear(f"{ours}.convolutions", f"{theirs}.conv_stack")
        | _residual(f"{ours}.convolutions.5", f"{theirs}.conv_stack.5")
        | _linear(f"{ours}.club_head", f"{theirs}.feed_forward")
    )


def _codebook(ours: str, theirs: str, level: str) -> Rules:
    """`level` is which part of the file's tensors it is, where one tensor holds those of all levels."""
    names = {
        "paper_table": "embedding",
        "sums": "ema_weight",
        "counts": "ema_count",
        "idle": "unactivated_count",
    }
    return {f"{ours}.codebook.{o}": f"{ENCODER}/{theirs}.{t}{level}" for o, t in names.items()}


def _decoder(ours: str, m: Modality) -> Rules:
    theirs = f"{m.capitalize()}_decoder"
    rules = _linear(f"{ours}.general", f"{theirs}.{m}_linear", DECODER)
    if m != "video":
        return rules | _linear(f"{ours}.output", f"{theirs}.{m}_rec", DECODER)
    return (
        rules
        | _linear(f"{ours}.convolutions", f"{theirs}.inverse_conv_block", DECODER)
        | _residual(f"{ours}.convolutions.1", f"{theirs}.inverse_conv_block.1", DECODER)
    )


def _predictor(ours: str, m: Modality) -> Rules:
    return _linear(f"{ours}.context", f"{m}_ar_lstm", CPC) | _linear(
        f"{ours}.predict", f"{m}_predictors", CPC
    )


def _club(ours: str, m: Modality) -> Rules:
    module = f"{m.capitalize()}_mi_net{SUFFIX}"
    return _linear(f"{ours}.mean", "p_mu", module) | _linear(f"{ours}.log_variance.0", "p_logvar", module)
