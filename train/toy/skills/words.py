"""Words to fill templates with."""

from ..vocabulary import o200k

NAMES = """Anna Ben Clara David Emma Felix Grace Henry Ida Jack Karen Leo Mia Nora Oscar Paul Rosa Sam Tina Victor Will Zoe Alice
Bruno Carla Daniel Elena Frank George Hanna Ivan Julia Kevin Laura Martin Nina Olga Peter Robert Sara Thomas Vera Adam""".split()
CITIES = """Oslo Paris London Berlin Rome Madrid Vienna Lisbon Dublin Prague Warsaw Athens Cairo Tokyo Delhi Lima Quito Boston Chicago
Dallas Denver Miami Seattle Toronto Montreal Sydney Melbourne Moscow Kiev Riga Bern Geneva Milan Naples Venice Munich Hamburg
Lyon Nice Porto Seville Bergen Helsinki Stockholm Copenhagen Brussels Amsterdam Zurich Budapest Belgrade Sofia Istanbul Baghdad
Tehran Mumbai Bangkok Manila Jakarta Seoul Beijing Shanghai Nairobi Lagos Accra Tunis Havana Bogota Santiago""".split()
COLORS = "red blue green black white golden iron old wooden small large heavy stone silver left right".split()
ITEMS = """lamp sword key coin rope map book bottle ring torch apple shield hammer cup letter bread stone crown knife candle
flower mirror box bag potion feather bow arrow helmet scroll""".split()
PLURALS = """apples oranges eggs candles books pens cups lamps tickets stamps chairs shirts lemons onions potatoes tomatoes
cookies bottles boxes flowers keys plates spoons bananas pears shoes""".split()
ROOMS = "kitchen bedroom hall garage bathroom office cellar garden library attic".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def _from_vocabulary():
    """Lower-case words that are single tokens: what is copied should be copied whatever it is."""
    tokens = (token for token in o200k()[:12000] if token[:1] == b" " and token[1:].isalpha() and token[1:].islower())
    return [token[1:].decode() for token in tokens if 5 <= len(token) <= 9]


WORDS = _from_vocabulary()


def word(rng, usual):
    """Mostly one of the usual, sometimes any word."""
    return rng.choice(usual) if rng.random() < 0.7 else rng.choice(WORDS)


def name(rng, usual):
    return rng.choice(usual) if rng.random() < 0.6 else rng.choice(WORDS).capitalize()
