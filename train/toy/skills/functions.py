"""Calls of functions that the developer describes. Names, parameters and descriptions vary, so they have to be read."""

import json

from .. import harmony
from . import Exchange, Scene, think
from .words import CITIES, COLORS, ITEMS, NAMES, ROOMS, name, word

SKIES = "sunny cloudy rainy windy foggy snowy stormy clear".split()


def parameter(names, description, kind="string", members=None):
    return {"names": names.split(), "description": description, "type": kind, "enum": members}


def weather(rng):
    city = name(rng, CITIES)
    ask = rng.choice(["What is the weather in {}?", "How is the weather in {}?", "What is the weather like in {} today?",
                      "Weather in {}?", "Tell me the weather in {}.", "How is the weather in {} today?"]).format(city)
    sky, degrees = rng.choice(SKIES), rng.randint(-9, 38)
    return ask, [city], f"the weather in {city}", {"sky": sky, "degrees": degrees}, f"In {city} it is {sky} and {degrees} degrees."


def calculate(rng):
    operator = rng.choice("+-*")
    a, b = rng.randint(100, 9999), rng.randint(11, 999)
    ask = rng.choice(["What is {}?", "Calculate {}.", "How much is {}?", "{}"]).format(f"{a} {operator} {b}")
    value = {"+": a + b, "-": a - b, "*": a * b}[operator]
    return ask, [f"{a} {operator} {b}"], f"the value of {a} {operator} {b}", {"result": value}, f"{a} {operator} {b} = {value}"


def act(verb, past, thing, reasons):
    """An action on one thing, which may fail."""
    def request(rng):
        value = thing(rng)
        ask = rng.choice(["{v} the {x}.", "Please {l} the {x}.", "{v} the {x}, please.", "Can you {l} the {x}?", "{l} the {x}"])
        ask = ask.format(v=verb.capitalize(), l=verb, x=value)
        if rng.random() < 0.7:
            return ask, [value], f"to {verb} the {value}", {"ok": True}, f"Done: I {past} the {value}."
        reason = rng.choice(reasons)
        return ask, [value], f"to {verb} the {value}", {"ok": False, "error": reason}, f"I could not {verb} the {value}: {reason}."
    return request


def give(rng):
    item, person = word(rng, ITEMS), name(rng, NAMES)
    ask = rng.choice(["Give the {} to {}.", "Please give the {} to {}.", "Hand the {} to {}."]).format(item, person)
    return ask, [item, person], f"to give the {item} to {person}", {"ok": True}, f"Done: I gave the {item} to {person}."


def walk(rng):
    way = rng.choice("north south east west up down".split())
    ask = rng.choice(["Go {}.", "Walk {}.", "Please go {}.", "Let us go {}."]).format(way)
    if rng.random() < 0.7:
        return ask, [way], f"to go {way}", {"ok": True}, f"Done: we went {way}."
    return ask, [way], f"to go {way}", {"ok": False, "error": "the way is blocked"}, f"We could not go {way}: the way is blocked."


def light(rng):
    room, state = word(rng, ROOMS), rng.choice(["on", "off"])
    ask = rng.choice(["Turn {s} the light in the {r}.", "Switch the {r} light {s}.", "Please turn the {r} light {s}."])
    return ask.format(s=state, r=room), [room, state], f"the {room} light {state}", {"ok": True}, f"The light in the {room} is {state}."


def timer(rng):
    minutes = rng.randint(1, 99)
    ask = rng.choice(["Set a timer for {} minutes.", "Timer for {} minutes, please.", "Remind me in {} minutes."]).format(minutes)
    return ask, [minutes], f"a timer of {minutes} minutes", {"ok": True}, f"The timer is set: {minutes} minutes."


def door(rng):
    return f"{word(rng, COLORS)} {rng.choice(['door', 'door', 'gate', 'chest'])}"


# What can be done: names of the function, descriptions, parameters, and requests.
KINDS = {
    "weather": ("get_weather weather get_current_weather weather_report fetch_weather", ["Gets the weather in a city.", "Current weather of a place.", "Says how the weather is."],
                [parameter("city location place town", "The city.")], weather),
    "calculate": ("calculate calculator calc compute evaluate", ["Computes an expression.", "A calculator.", "Evaluates arithmetic."],
                  [parameter("expression formula input", "What to compute.")], calculate),
    "open": ("open_door open unlock open_object door_open", ["Opens a door.", "Opens something.", "Opens a door, gate or chest."],
             [parameter("door name object target", "What to open.")],
             act("open", "opened", door, ["it is locked", "it is stuck", "the key is missing"])),
    "close": ("close_door close shut close_object door_close", ["Closes a door.", "Closes something.", "Shuts a door, gate or chest."],
              [parameter("door name object target", "What to close.")],
              act("close", "closed", door, ["it is stuck", "something is in the way"])),
    "take": ("take_item take pick_up get_item grab", ["Takes an item.", "Picks something up."],
             [parameter("item name object thing", "What to take.")],
             act("take", "took", lambda rng: word(rng, ITEMS), ["it is too heavy", "it is not here"])),
    "give": ("give_item give hand_over give_to", ["Gives an item to somebody.", "Hands something over."],
             [parameter("item name object thing", "What to give."), parameter("to person receiver", "Who gets it.")], give),
    "walk": ("go move walk go_to travel", ["Goes in a direction.", "Moves the player."],
             [parameter("direction way where", "Where to go.", members="north south east west up down".split())], walk),
    "light": ("set_light light switch_light light_control", ["Turns a light on or off.", "Controls the lights."],
              [parameter("room where place", "The room."), parameter("state value power", "On or off.", members=["on", "off"])], light),
    "timer": ("set_timer timer start_timer remind", ["Sets a timer.", "Starts a timer."],
              [parameter("minutes duration time", "How many minutes.", "number")], timer),
}


def describe(rng, kind):
    """A function for this kind of request, as one developer would define it."""
    names, descriptions, parameters, _ = KINDS[kind]
    properties = {}
    for entry in parameters:
        schema = {"type": entry["type"], "description": entry["description"]}
        if rng.random() < 0.3:
            del schema["description"]
        if entry["enum"]:
            schema["enum"] = entry["enum"]
        properties[rng.choice(entry["names"])] = schema
    return {"name": rng.choice(names.split()), "description": rng.choice(descriptions),
            "parameters": {"type": "object", "properties": properties, "required": list(properties)}}


def key_of(kind, ask, values):
    """What a request is held out by: its values, or its words where there are too few values to do without one."""
    return ask if kind == "walk" else str(values)


def scene(rng):
    kinds = rng.sample(list(KINDS), rng.choice([1, 2, 2, 3, 3, 4]))
    functions = {kind: describe(rng, kind) for kind in kinds}
    if len({function["name"] for function in functions.values()}) < len(kinds):
        return scene(rng)

    def exchange(rng, effort):
        if len(kinds) < 4 and rng.random() < 0.08:
            # Nothing in the list does it.
            kind = rng.choice([kind for kind in KINDS if kind not in kinds and kind not in ("calculate", "open", "close")])
            ask, values, goal, _, _ = KINDS[kind][3](rng)
            thought = think(effort, "No tool fits.", f"The user wants {goal}. No tool in the list does that.", "So I say that I cannot do it.")
            return Exchange([harmony.user(ask), harmony.analysis(thought), harmony.final("Sorry, I have no tool for that.")], key_of(kind, ask, values))
        kind = rng.choice(kinds)
        function = functions[kind]
        ask, values, goal, answer, told = KINDS[kind][3](rng)
        arguments = dict(zip(function["parameters"]["properties"], values))
        shown = " and ".join(f"{key} is {value}" for key, value in arguments.items())
        # To find the parameters of a function among all is hard; to copy what stands behind its name is not.
        definition = f"{function['name']} = (_: {harmony.type_text(function['parameters'])})"
        thought = think(effort, f"I call {definition}.", f"The user wants {goal}. The tool {definition} does that.",
                        f"Its {shown}. I call it and tell the result.")
        call = harmony.call(function["name"], arguments)
        result = harmony.result(call, json.dumps(answer, separators=(",", ":")))
        return Exchange([harmony.user(ask), harmony.analysis(thought), call, result, harmony.final(told)], key_of(kind, ask, values))

    instructions = rng.choice([None, None, "Use the tools to help the user.", "You help the player of a game.", "You are a helpful assistant."])
    return Scene(exchange, harmony.developer(instructions, list(functions.values())), functions=True)
