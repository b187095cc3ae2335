"""What a clip says about its primary event: phrases of many words, in many orders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Phrases:
    """Ways to name an event. Subjects are singular; actions pair the third person with the participle."""

    subjects: tuple[str, ...]
    actions: tuple[tuple[str, str], ...]


def _phrases(subjects: str, actions: str) -> Phrases:
    pairs = (action.split("/") for action in actions.split(", "))
    return Phrases(tuple(subjects.split(", ")), tuple((verb, participle) for verb, participle in pairs))


PHRASES: dict[str, Phrases] = {
    "siren": _phrases(
        "a siren, an ambulance, a police car, an emergency vehicle",
        "wails/wailing, blares/blaring, howls past/howling past",
    ),
    "bell": _phrases(
        "a church bell, a big bronze bell, the bell of a chapel, a steeple bell",
        "rings/ringing, tolls/tolling, chimes/chiming, swings/swinging",
    ),
    "rain": _phrases(
        "rain, heavy rain, a downpour, a steady drizzle, a shower",
        "falls/falling, pours down/pouring down, patters/pattering",
    ),
    "engine": _phrases(
        "an engine, a motor, an old diesel, an idling car",
        "runs/running, rumbles/rumbling, chugs/chugging, purrs/purring",
    ),
    "footsteps": _phrases(
        "a person in boots, a walker, someone in hard shoes, a pedestrian",
        "walks/walking, strides along/striding along, takes steps/taking steps, paces/pacing",
    ),
    "bird": _phrases(
        "a bird, a songbird, a canary, a small sparrow",
        "sings/singing, chirps/chirping, tweets/tweeting, whistles/whistling",
    ),
    "telephone": _phrases(
        "a telephone, an old phone, a landline, a handset",
        "rings/ringing, calls for an answer/calling for an answer, trills/trilling",
    ),
    "drum": _phrases(
        "a drum, a drummer, a tom, a percussionist",
        "beats/beating, plays a rhythm/playing a rhythm, booms/booming",
    ),
    "wind": _phrases(
        "wind, a strong gust, a stiff breeze, a gale",
        "blows/blowing, sweeps by/sweeping by, whistles/whistling, howls/howling",
    ),
    "clock": _phrases(
        "a clock, a wall clock, a pocket watch, a timepiece",
        "ticks/ticking, goes tick tock/going tick tock, counts seconds/counting seconds",
    ),
    "knock": _phrases(
        "someone at the door, a visitor, a fist on wood, a caller at the gate",
        "knocks/knocking, raps/rapping, bangs/banging",
    ),
    "laughter": _phrases(
        "a man, a woman, a happy crowd, someone amused, a comedian",
        "laughs/laughing, giggles/giggling, chuckles/chuckling, bursts into laughter/bursting into laughter",
    ),
    "dog": _phrases(
        "a dog, a puppy, a hound, a terrier",
        "barks/barking, yaps/yapping, goes woof/going woof",
    ),
    "cat": _phrases(
        "a cat, a kitten, a tabby, a hungry tomcat",
        "meows/meowing, mews/mewing, yowls/yowling",
    ),
    "thunder": _phrases(
        "thunder, a thunderstorm, a lightning storm, a bolt of lightning",
        "rumbles/rumbling, cracks/cracking, rolls/rolling, crashes/crashing",
    ),
    "helicopter": _phrases(
        "a helicopter, a chopper, a rotorcraft, a rescue copter",
        "hovers/hovering, flies over/flying over, whirs/whirring",
    ),
    "train": _phrases(
        "a train, a locomotive, a railway carriage, an express on rails",
        "passes/passing, sounds its horn/sounding its horn, rattles by/rattling by, speeds on/speeding on",
    ),
    "sea": _phrases(
        "the sea, an ocean wave, the surf, a rising tide",
        "breaks/breaking, washes ashore/washing ashore, rolls/rolling, crashes/crashing",
    ),
    "frog": _phrases(
        "a frog, a toad, a bullfrog, an amphibian",
        "croaks/croaking, ribbits/ribbiting, calls/calling",
    ),
    "cricket": _phrases(
        "a cricket, a grasshopper, an insect, a cicada",
        "chirps/chirping, stridulates/stridulating, buzzes/buzzing",
    ),
    "guitar": _phrases(
        "a guitar, a guitarist, an acoustic guitar, a banjo player",
        "strums/strumming, plays chords/playing chords, picks strings/picking strings",
    ),
    "flute": _phrases(
        "a flute, a flautist, a recorder player, a piccolo",
        "plays a melody/playing a melody, trills/trilling, sounds a breathy tune/sounding a breathy tune",
    ),
    "piano": _phrases(
        "a piano, a pianist, a grand piano, an upright piano",
        "plays notes/playing notes, plays a melody/playing a melody, tinkles/tinkling",
    ),
    "glass": _phrases(
        "glass, a window pane, a bottle, a mirror",
        "shatters/shattering, breaks/breaking, smashes/smashing",
    ),
    "typing": _phrases(
        "a typist, a person at a keyboard, an office clerk, a programmer",
        "types/typing, taps keys/tapping keys, clatters on/clattering on",
    ),
    "drip": _phrases(
        "a leaking tap, a faucet, a water droplet, a leaky pipe",
        "drips/dripping, plops/plopping, trickles/trickling",
    ),
    "fire": _phrases(
        "a fire, a campfire, a bonfire, a burning log",
        "crackles/crackling, burns/burning, blazes/blazing",
    ),
    "chainsaw": _phrases(
        "a chainsaw, a lumberjack, a power saw, a logger",
        "cuts timber/cutting timber, saws/sawing, buzzes/buzzing, roars/roaring",
    ),
}

TEMPLATES = (
    "{subject} {verb}",
    "{subject} {verb} {scene}",
    "{subject} is {participle}",
    "{subject} is {participle} {scene}",
    "{scene} {subject} {verb}",
    "{scene}, {subject} is {participle}",
    "the sound of {subject} {participle}",
    "a recording of {subject} {participle} {scene}",
    "you can hear {subject} {participle}",
    "here we see {subject} {participle} {scene}",
    "there is {subject} {participle}",
    "here {subject} {verb} again and again",
    "{participle}: {subject} {scene}",
    "listen, {subject} {verb}",
    "{subject}, {participle} {scene}",
)

SCENES = (
    "in the distance",
    "nearby",
    "at night",
    "this morning",
    "in the afternoon",
    "on a quiet day",
    "somewhere outside",
    "not far away",
    "in the background",
    "close to us",
    "today",
    "for a while",
)

ENDINGS = ("", "", "", ".", ".", "!", "...")


def caption(event: str, random: np.random.Generator) -> str:
    """One caption of 3 to 14 words that tells `event` and no other event."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(random.integers(len(options)))]

    phrases = PHRASES[event]
    verb, participle = phrases.actions[int(random.integers(len(phrases.actions)))]
    parts = {"subject": pick(phrases.subjects), "verb": verb, "participle": participle, "scene": pick(SCENES)}
    text = pick(TEMPLATES).format(**parts)
    if len(text.split()) < 3:
        text = f"{text} {parts['scene']}"
    case = random.random()
    if case < 0.45:
        text = text[0].upper() + text[1:]
    elif case < 0.5:
        text = text.upper()
    return text + pick(ENDINGS)
