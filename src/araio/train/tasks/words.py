"""The words the language of the tasks is made of: few, common, and shared by the families.

Kept small so that a small tokenizer learns each of them as one or two tokens. Names carry a gender
because kinship words do. Refuses nothing, holds no logic; read any family next.
"""

from __future__ import annotations

__all__ = [
    "ADJECTIVES",
    "ANIMALS",
    "FEMALE_NAMES",
    "KINDS",
    "LONG_WORDS",
    "MALE_NAMES",
    "NAMES",
    "OBJECTS",
    "ORDINALS",
    "PLACES",
    "WORDS",
]


def listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FEMALE_NAMES = listed(
    "Ann Eva Mia Zoe Lucy Emma Nora Ruth Sara Lily Rosa Jane Kate Lena Maya Ella Iris June Vera Dora"
)
MALE_NAMES = listed(
    "Bob Tom Max Leo Sam Ben Dan Jack Noah Paul Karl Hugo Owen Eric Adam Luke Otto Finn Ivan Ralph"
)
NAMES = FEMALE_NAMES + MALE_NAMES

# Invented kinds of things: nothing known about the world can help or mislead.
KINDS = listed(
    "wug dov blick fep toma zorp lorp mip gub tiv kem rosk plim vark dobe sneet quib harn jolt "
    "munk yarp crid twill bopper"
)

OBJECTS = listed(
    "apple ball book coin pen card shell stone cup cake egg stamp button marble pencil sticker ribbon "
    "flower lemon cookie peach plum nut key ring hat toy kite brush candle"
)

ANIMALS = listed(
    "fox owl bear wolf deer hare crow swan goose duck horse sheep goat tiger lion zebra camel whale shark "
    "seal otter mouse rabbit badger beaver eagle hawk raven robin finch snake lizard turtle frog toad newt "
    "salmon trout crab lobster spider ant bee wasp moth beetle snail worm monkey panda koala llama donkey "
    "pony cow bull pig hen rooster turkey pigeon parrot falcon heron stork crane gull dolphin walrus squid "
    "clam bat rat mole squirrel weasel ferret lynx puma jaguar leopard bison moose elk hamster kitten puppy "
    "lamb calf dog cat cricket"
)

ADJECTIVES = listed(
    "amber red blue green golden silver black white brown gray pink purple orange yellow crimson copper "
    "brave calm clever quick slow quiet loud happy sad proud gentle fierce bright dark warm cold cool hot "
    "wild tame young old tall short tiny huge big small thin wide narrow deep shallow soft hard smooth rough "
    "sharp dull sweet sour bitter salty fresh dry wet clean dusty shiny rusty rich poor kind cruel lazy busy "
    "early late empty full heavy light strong weak lucky merry grumpy sleepy hungry thirsty curious careful "
    "honest noble humble polite rude silent noisy round square flat curly straight plain fancy royal simple "
    "spotted striped hidden lost"
)

PLACES = listed(
    "house garden river forest mountain village market school kitchen bridge island harbor castle tower "
    "window door street road field meadow lake ocean beach desert valley hill cave camp farm barn"
)

COMMON = listed(
    "water bread table chair paper letter number story music summer winter spring morning evening night "
    "mother father sister brother friend teacher doctor farmer sailor baker king queen prince child people "
    "hand head heart finger shoulder mouth nose tooth hair foot leg arm strawberry banana cherry carrot "
    "potato tomato onion pepper butter cheese sugar honey coffee dinner planet moon star cloud rain snow "
    "storm thunder wind fire smoke shadow silence answer question reason number pocket basket bottle hammer "
    "needle mirror pillow blanket carpet ladder engine wheel train ticket travel journey picture color voice "
    "word sentence language history science nature minute hour week month year"
)

# The words that letter tasks spell, each once and in a fixed order.
WORDS = tuple(dict.fromkeys(COMMON + OBJECTS + PLACES + ANIMALS + ADJECTIVES))

LONG_WORDS = listed(
    "butterfly grandmother grandfather understand adventure telephone crocodile mathematics university "
    "wonderful dangerous dictionary alligator chocolate breakfast newspaper neighborhood temperature "
    "watermelon waterfall lighthouse playground hippopotamus rhinoceros thunderstorm blackberry "
    "afternoon everything different important beautiful celebrate detective education furniture"
)

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
