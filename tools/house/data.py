"""Generates the training documents: everything the house model has ever seen comes from here.

A document is a list of (text, learn) pieces. `document(rng, held)` draws one; the same
random.Random state gives the same bytes. With held=True the wordings, names and words reserved for the
evaluation are used instead of the training ones, so that copying and paraphrase are measured, not memory.
"""
import json
import random

import harmony as H
import stories
from words import *

ABOUT = {
    "question": "I am oriel's house model, a very small one. I can greet you, name capitals, do small sums, tell short stories and call tools.",
    "language": "I only speak English. I can name capitals, do small sums, tell short stories and call tools.",
    "code": "I cannot work with code, because I am a very small model. I can name capitals, do small sums and tell short stories.",
    "noise": "I do not understand that. Ask me for a capital, a colour, an opposite, a small sum or a short story.",
}
GREETINGS = "Hello|Hi|Hey|Hello there|Hi there|Good morning|Good evening|Good afternoon|Hey there|Greetings|Hello oriel|Hi oriel|Howdy".split("|")
HELD_GREETINGS = "Hiya|Hello friend|Good day".split("|")
HELLO = ["Hello! How can I help you?", "Hi! What can I do for you?", "Hello! It is nice to meet you."]


def pick(rng, seq):
    return seq[int(rng.random() * len(seq))]


def chance(rng, p):
    return rng.random() < p


def between(rng, a, b):
    return a + int(rng.random() * (b - a + 1))


def cap(s):
    return s[:1].upper() + s[1:]


def made_up(rng, low=2, high=4):
    return "".join(pick(rng, SYLLABLES) for _ in range(between(rng, low, high)))


def rough(rng, text):
    """People type without capitals, stops and care."""
    r = rng.random()
    if r < 0.12:
        text = text.lower()
    elif r < 0.16:
        text = text.rstrip("?.!")
    elif r < 0.22:
        text = text.lower().rstrip("?.!")
    elif r < 0.24:
        text = text.upper()
    if chance(rng, 0.05):
        text = pick(rng, ["Please: ", "Hi! ", "Hello, ", "OK. ", "So, "]) + text
    if chance(rng, 0.03):
        text += pick(rng, [" Thanks!", " Please.", " :)", "\n", " Thank you."])
    return text


# Each skill returns (question, effort → analysis, answer).

def think(short, medium, more):
    return {"low": short, "medium": medium, "high": medium + " " + more}


def greet(rng, held):
    r = rng.random()
    if r < 0.45:
        g = pick(rng, HELD_GREETINGS if held else GREETINGS)
        q = g + pick(rng, ["", "!", ".", ", how are you?", "! How are you?"])
        if "how" in q.lower():
            return q, think("Greeting.", "The user greets me.", "I say that I am well."), "Hello! I am well, thank you. How can I help you?"
        return q, think("Greeting.", "The user greets me.", "I greet back."), HELLO[len(g) % 3]
    if r < 0.60:
        name = pick(rng, HELD_NAMES if held else NAMES) if chance(rng, 0.6) else cap(made_up(rng, 2, 3))
        q = pick(rng, ["My name is {}.", "I am {}.", "Hi, I am {}.", "Hello, my name is {}!", "Call me {}."]).format(name)
        return q, think("A name.", "The user is called " + name + ".", "I greet by name."), "Hello, " + name + "! How can I help you?"
    table = [
        (["How are you?", "How are you today?", "How do you do?", "How is it going?", "Are you well?"], "Greeting.", "The user asks how I am.",
         "I am well, thank you. How can I help you?"),
        (["Who are you?", "What are you?", "What is your name?", "Introduce yourself.", "Are you ChatGPT?", "Are you a human?",
          "Which model is this?", "Tell me about yourself."], "About me.", "The user asks who I am.",
         "I am oriel's house model, a small language model trained by the oriel project."),
        (["What can you do?", "How can you help me?", "Help", "Help me.", "What do you know?", "What are you good at?", "I need help."],
         "About me.", "The user asks what I can do.",
         "I can greet you, name capitals, colours and opposites, do small sums, tell short stories and call tools."),
        (["Thank you!", "Thanks.", "Thank you very much.", "Great, thanks!", "That was helpful."], "Thanks.", "The user thanks me.",
         "You are welcome! Is there anything else?"),
        (["Goodbye!", "Bye.", "See you later.", "Good night.", "Bye bye!"], "Goodbye.", "The user leaves.", "Goodbye! Have a nice day."),
        (["Nice to meet you.", "I like you.", "You are nice.", "Well done!", "Good job."], "Kind words.", "The user is kind.",
         "Thank you! That is kind of you."),
        (["Hello, who are you?", "Hi, what are you?"], "About me.", "The user asks who I am.",
         "Hello! I am oriel's house model, a small language model trained by the oriel project."),
        (["Test", "Testing", "test 123", "Is this working?", "Are you there?", "ping"], "A test.", "The user tests me.",
         "I am here and it works. How can I help you?"),
        (["Ok", "Yes", "No", "Maybe", "Cool", "I see.", "Really?"], "Small talk.", "The user makes small talk.",
         "All right. Ask me for a capital, a small sum or a story."),
    ]
    qs, short, medium, a = pick(rng, table)
    return pick(rng, qs), think(short, medium, "I answer in one sentence."), a


CAPITAL_Q = ["What is the capital of {c}?", "What is the capital city of {c}?", "What's the capital of {c}?", "Name the capital of {c}.",
             "Which city is the capital of {c}?", "Tell me the capital of {c}.", "Do you know the capital of {c}?", "Capital of {c}?",
             "The capital of {c} is?", "{c}: what is its capital?", "I need the capital of {c}.", "What is {c}'s capital?",
             "Could you tell me the capital of {c}?", "Which is the capital of {c}?", "Quick question: what is the capital of {c}?",
             "What city is the capital of {c}?", "The capital of {c}", "Give me the capital of {c}."]
HELD_CAPITAL_Q = ["Can you name the capital of {c}?", "Please tell me what the capital of {c} is.", "{c}'s capital city?",
                  "What would be the capital of {c}?"]
COUNTRIES = sorted(CAPITALS)


def capital(rng, held):
    c = pick(rng, COUNTRIES)
    city = CAPITALS[c]
    if not held and chance(rng, 0.12):
        q = pick(rng, ["Which country has {} as its capital?", "{} is the capital of which country?", "What country is {} the capital of?"]).format(city)
        if city == "London":
            c = "the United Kingdom"
        return q, think(city + ".", "The user asks which country has the capital " + city + ".", "I know it."), city + " is the capital of " + c + "."
    if not held and chance(rng, 0.06):
        c = cap(made_up(rng)) if chance(rng, 0.6) else pick(rng, TOPICS)
        return (pick(rng, CAPITAL_Q).format(c=c), think("Unknown.", "I do not know a country called that.", "I say so."),
                "I do not know that country. I know the capitals of most countries, for example Paris for France.")
    q = pick(rng, HELD_CAPITAL_Q if held else CAPITAL_Q).format(c=c)
    return (q, think("Capital of " + c + ".", "The user asks for the capital of " + c + ".", "It is " + city + "."),
            "The capital of " + cap(c) + " is " + city + "." if not c.startswith("the ") else "The capital of " + c + " is " + city + ".")


def fact(rng, held):
    r = rng.random()
    if r < 0.2:
        t = pick(rng, sorted(COLOURS))
        q = pick(rng, ["Which colour does {} have?", "{}: which colour?"] if held else
                 ["What colour is {}?", "What color is {}?", "What is the colour of {}?", "Tell me the colour of {}.", "Which colour is {}?"]).format(t)
        return cap(q), think("A colour.", "The user asks for the colour of " + t + ".", "I know it."), cap(t) + " is " + COLOURS[t] + "."
    if r < 0.4:
        a, b = pick(rng, OPPOSITES)
        if b != "light-weight" and chance(rng, 0.5):
            a, b = b, a
        q = pick(rng, ["Which word is the opposite of {}?", "{}: what is its opposite?"] if held else
                 ["What is the opposite of {}?", "What's the opposite of {}?", "Name the opposite of {}.", "Tell me the opposite of {}.",
                  "The opposite of {}?", "What is the contrary of {}?"]).format(a)
        return cap(q), think("An opposite.", "The user asks for the opposite of " + a + ".", "I know it."), "The opposite of " + a + " is " + b + "."
    if r < 0.52:
        few, one, n = pick(rng, UNITS)
        q = pick(rng, ["How many {} does {} have?"] if held else ["How many {} are in {}?", "How many {} are there in {}?", "How many {} make {}?"]).format(few, one)
        return q, think("A unit.", "The user asks for a number.", "I know it."), "There are " + n + " " + few + " in " + one + "."
    if r < 0.62:
        a = pick(rng, sorted(SOUNDS))
        q = pick(rng, ["Which sound does a {} make?"] if held else ["What does a {} say?", "What sound does a {} make?", "How does a {} sound?"]).format(a)
        return q, think("A sound.", "The user asks what a " + a + " says.", "I know it."), "A " + a + " says " + SOUNDS[a] + "."
    if r < 0.74:
        days = DAYS if chance(rng, 0.5) else MONTHS
        what = "day" if days is DAYS else "month"
        i = between(rng, 0, len(days) - 1)
        after = chance(rng, 0.6)
        d = days[(i + (1 if after else -1)) % len(days)]
        w = "after" if after else "before"
        q = pick(rng, ["Which {w} is {a} {d}?"] if held else ["Which {w} comes {a} {d}?", "What {w} comes {a} {d}?", "What is the {w} {a} {d}?"])
        return q.format(w=what, a=w, d=days[i]), think("The calendar.", "The user asks for a " + what + ".", "I know the order."), d + " comes " + w + " " + days[i] + "."
    table = [
        (["What is oriel?", "Tell me about oriel.", "What does oriel do?"], "Oriel runs open-weight language models in the terminal and behind the OpenAI API."),
        (["How do I start the server?", "How do I start oriel as a server?", "How can I use the API?"], "Run `oriel serve`, then send requests to http://127.0.0.1:8080/v1."),
        (["How do I chat in the terminal?", "How can I chat with you?", "How do I start a chat?"], "Run `oriel chat` in a terminal."),
        (["Which commands does oriel have?", "What commands are there?", "List the commands of oriel."],
         "The commands are generate, chat, score, tokenize, inspect, bench and serve."),
        (["How do I use another model?", "How can I load a bigger model?", "How do I run a GGUF file?"], "Use the option --model with the path of a GGUF file."),
        (["How do I measure the speed?", "How fast is oriel?", "How do I run a benchmark?"], "Run `oriel bench speed` to measure the speed."),
        (["How do I look into a model file?", "How do I inspect a GGUF file?"], "Run `oriel inspect FILE` to see what is in a model file."),
        (["How big are you?", "How many parameters do you have?"], "I am a very small model with fewer than three million parameters."),
        (["Who made you?", "Who trained you?", "Who created you?"], "The oriel project trained me from scratch on data it generated."),
        (["Which format do you speak?", "What is harmony?"], "Harmony is the chat format of GPT-OSS, with channels for analysis, commentary and final answers."),
        (["What is a window?", "What is the window?", "How long can we talk?"], "A conversation lives in a window of fixed size, so it never wears oriel out."),
    ]
    qs, a = pick(rng, table)
    return pick(rng, qs), think("About oriel.", "The user asks about oriel.", "I know this."), a


def arithmetic(rng, held):
    op = pick(rng, "++-*")
    if op == "*":
        a, b = between(rng, 0, 10), between(rng, 0, 10)
        c = a * b
    else:
        a, b = between(rng, 0, 12), between(rng, 0, 12)
        if op == "-" and a < b:
            a, b = b, a
        c = a + b if op == "+" else a - b
    word = {"+": "plus", "-": "minus", "*": "times"}[op]
    sign = pick(rng, ["*", "x"]) if op == "*" else op
    style = rng.random()
    expr = "%d %s %d" % (a, sign, b) if style < 0.55 else "%d%s%d" % (a, sign, b) if style < 0.75 else "%d %s %d" % (a, word, b)
    if 0.92 < style and max(a, b) <= 20:
        expr = "%s %s %s" % (NUMBERS[a], word, NUMBERS[b])
    q = pick(rng, ["Please work out {}.", "How much do you get for {}?"] if held else
             ["What is {}?", "What's {}?", "{}", "{} = ?", "{}?", "Compute {}.", "Calculate {}.", "How much is {}?", "{}=", "Tell me what {} is.", "Can you compute {}?"]).format(expr)
    eq = "%d %s %d = %d" % (a, op, b, c)
    return q, think(eq, "A small sum: " + eq, "That is the answer."), eq + "."


def count(rng, held):
    a = pick(rng, [0, 1, 1, 1, 1, 2, 3])
    b = between(rng, a + 2, 20)
    if chance(rng, 0.5):
        q = pick(rng, ["Count from {} to {}.", "Count from {} to {} in words.", "Please count from {} to {}."]).format(
            *((NUMBERS[a], NUMBERS[b]) if chance(rng, 0.6) else (a, b)))
    else:
        a = 1
        q = pick(rng, ["Count to {}.", "Count up to {}.", "Count to {} in words."]).format(NUMBERS[b] if chance(rng, 0.6) else b)
    return q, think("Counting.", "The user wants me to count.", "I count in words."), cap(", ".join(NUMBERS[a:b + 1])) + "."


def phrase(rng, held, low=1, high=5):
    words = []
    for _ in range(between(rng, low, high)):
        r = rng.random()
        words.append(made_up(rng) if r < (0.6 if held else 0.25) else pick(rng, ANIMALS + FOODS + THINGS) if r < 0.6 else pick(rng, ADJS + PLACES + COLOUR_WORDS))
    return " ".join(words)


def echo(rng, held):
    what = phrase(rng, held) if chance(rng, 0.8) else pick(rng, ["this is a test", "hello", "hi", "good morning", "I like cats", "the end", "yes", "banana"])
    what = cap(what) if chance(rng, 0.4) else what
    q = pick(rng, ["Say {}", "Say: {}", "Repeat: {}", "Repeat after me: {}", "Say \"{}\"", "Please say {}", "Echo {}", "Write {}"]).format(what)
    return q, think("Repeat.", "The user wants me to say it.", "I repeat the words."), what


def tale(rng, held):
    hero = pick(rng, ANIMALS)
    q = pick(rng, ["Please tell a tale about a {}.", "I want a story with a {}."] if held else
             ["Tell me a story about a {}.", "Write a story about a {}.", "Write a short story about a {}.", "A story about a {}, please.",
              "Can you tell me a story about a {}?", "Tell me a bedtime story about a {}."]).format(hero)
    if chance(rng, 0.2):
        q = pick(rng, ["Tell me a story.", "Tell me a short story.", "Write a long story.", "Tell a story, please.", "I want to hear a story."])
    return q, think("A story.", "The user wants a story about a " + hero + ".", "I tell a short one."), stories.story(rng, hero, short=True)


def anything(rng, held):
    """What nobody can foresee: answered with a sentence on what the model can do."""
    t = pick(rng, HELD_TOPICS if held else TOPICS) if chance(rng, 0.7) else phrase(rng, held, 1, 3)
    u = pick(rng, HELD_TOPICS if held else TOPICS)
    v = pick(rng, VERBS_FREE)
    w = pick(rng, HELD_NAMES if held else NAMES)
    p = pick(rng, PLACES + THINGS)
    r = rng.random()
    kind = "question"
    if r < 0.62:
        q = pick(rng, [
            "Explain {t}.", "Explain {t} to me.", "What is {t}?", "How does {t} work?", "Why is {t} important?", "Tell me about {t}.",
            "Say something about {t}.", "Write a poem about {t}.", "Write an essay on {t}.", "How do I {v} {t}?", "How can I {v} a {p}?",
            "Who invented {t}?", "When was {t} discovered?", "Where can I find {t}?", "Give me five ideas about {t}.", "What do you think about {t}?",
            "Compare {t} and {u}.", "What is the difference between {t} and {u}?", "Translate '{t}' into French.", "Is {t} better than {u}?",
            "Give me a recipe for {t}.", "Recommend a book about {t}.", "Do you like {t}?", "I am bored.", "I am sad today.", "What should I do today?",
            "What is the weather in {n}?", "What time is it?", "What day is it today?", "How old are you?", "Where do you live?", "Tell me a joke.",
            "Who is {w}?", "Who is the president of {n}?", "What is the population of {n}?", "How far is it to {n}?", "{w} wants to {v} {t}. What now?",
            "Summarise this text: {w} went to the {p} to {v} {t}.", "List all kinds of {t}.", "Give me advice on {t}.", "Invent a strange name.",
            "Recite a very long poem about {t}.", "Solve this problem: {t}.", "Can you {v} {t}?", "Please {v} my {p}.", "I want to {v} {t}.",
            "My {p} is broken, help!", "Should I {v} {t} or {u}?", "Remember the number {k} and the word {p}.", "Which number did I say?",
            "What is {k} divided by {j}?", "What is the square root of {k}?", "Sort these numbers: {k}, {j}, 3.", "Pick", "Fill", "Draw a {p}.",
            "Describe {t} in detail.", "Write code for {t}.", "Write a program that can {v} {t}.", "What happened in {k}?", "Tell me more.", "Why?", "How?",
            "What?", "And then?", "Continue.", "{t}", "{t} {u}", "I like {t} and {u}.", "{w} likes {t}.", "We went to the {p} in {n}.", "Who won the match?",
            "Book a flight to {n}.", "Turn on the light.", "Play some {t}.", "Send an email to {w}.", "Set an alarm for {k}.", "Go north.", "Look up {t}.",
            "Please give the history of {t}.", "Make a list of {t}.", "Teach me {t}.", "What are {t}?", "How many {t} are there?", "Are {t} real?",
        ]).format(t=t, u=u, v=v, w=w, p=p, n=cap(made_up(rng)) if chance(rng, 0.5) else pick(rng, COUNTRIES), k=between(rng, 13, 9999), j=between(rng, 2, 999))
    elif r < 0.68:
        q, kind = pick(rng, OTHER_LANGUAGES), "language"
    elif r < 0.73:
        q = pick(rng, ["", "Fix this: ", "What does this do?\n", "Explain: "]) + pick(rng, CODE)
        kind = "code"
    elif r < 0.80:
        q = phrase(rng, held, 1, 12)
    elif r < 0.84:
        kind = "noise"
        x = pick(rng, ["x", "a", "ha", "test ", "...", "?", "la ", " x1", "1 ", "word ", "😀", "é", "no ", "!", "0"])
        q = x * between(rng, 1, 40)
    elif r < 0.88:
        kind = "noise"
        q = "".join(pick(rng, "abcdefghijklmnopqrstuvwxyz ABC0123456789.,;:!?-_/()[]{}'\"#*+=<>|~%&$@") for _ in range(between(rng, 1, 40)))
    elif r < 0.91:
        q = pick(rng, ["Summarise: ", "", "Read this and answer: ", "Here is a text: "]) + stories.story(rng, pick(rng, ANIMALS), short=True)
    elif r < 0.94:
        kind = "noise"
        q = "".join(chr(pick(rng, [between(rng, 0xE0, 0x17F), between(rng, 0x400, 0x44F), between(rng, 0x4E00, 0x9FA0), between(rng, 0x1F600, 0x1F64F),
                                   between(rng, 97, 122), 32, between(rng, 0x3041, 0x3096)])) for _ in range(between(rng, 2, 16)))
    elif r < 0.96:
        q = ", ".join(str(between(rng, 0, 9999)) for _ in range(between(rng, 1, 8)))
    else:
        q = " ".join(pick(rng, ["Is", "the", "a", "my", "your", "in", "on", "with", "and", "not", "but", "of", "to", "it", "was", "will", "can", p, t, v, w])
                     for _ in range(between(rng, 2, 14)))
    return q, think("I cannot do this.", "I do not know this.", "I say what I can do."), ABOUT[kind]


SKILLS = [(greet, 0.17), (capital, 0.25), (fact, 0.13), (arithmetic, 0.10), (count, 0.03), (echo, 0.05), (tale, 0.07), (anything, 0.20)]


def skill(rng):
    r = rng.random()
    for f, share in SKILLS:
        r -= share
        if r < 0:
            return f
    return anything


def effort_of(rng):
    return pick(rng, ["low", "medium", "medium", "high"])


def date_of(rng):
    return None if chance(rng, 0.08) else "%d-%02d-%02d" % (between(rng, 2023, 2032), between(rng, 1, 12), between(rng, 1, 28))


def preamble(rng, effort, functions=()):
    """System and developer messages."""
    identity = H.DEFAULT_IDENTITY if chance(rng, 0.85) else pick(rng, IDENTITIES)
    cutoff = "2024-06" if chance(rng, 0.95) else "%d-%02d" % (between(rng, 2021, 2030), between(rng, 1, 12))
    out = H.system(identity, cutoff, date_of(rng), effort, bool(functions),
                   "analysis, commentary, final" if functions or chance(rng, 0.97) else "analysis, final")
    instructions = None
    if chance(rng, 0.3):
        instructions = " ".join(pick(rng, INSTRUCTIONS) for _ in range(between(rng, 1, 2)))
        if chance(rng, 0.15):
            instructions += " " + " ".join(stories.sentence(rng) for _ in range(between(rng, 1, 4)))
    return out + H.developer(instructions, functions, chance(rng, 0.4))


def conversation(rng, held=False, only=None, effort=None):
    effort = effort or effort_of(rng)
    out = preamble(rng, effort)
    if only is None and chance(rng, 0.02):
        out = []
        effort = "medium"
    if only is None and chance(rng, 0.03):
        out += H.past_answer(pick(rng, HELLO))  # a greeting the program shows before the first turn
    turns = 1 if only or chance(rng, 0.6) else between(rng, 2, 4)
    last = None
    for t in range(turns):
        if last == "capital" and chance(rng, 0.4):
            c = pick(rng, COUNTRIES)
            q, thoughts, a = (pick(rng, ["And {}?", "And of {}?", "What about {}?", "And the capital of {}?", "{}?"]).format(c),
                              think("Capital of " + c + ".", "The user asks for the capital of " + c + ".", "It is " + CAPITALS[c] + "."),
                              "The capital of " + c + " is " + CAPITALS[c] + ".")
        else:
            f = only or skill(rng)
            q, thoughts, a = f(rng, held)
            last = f.__name__
            if last not in ("echo", "anything"):
                q = rough(rng, q) if not held else q
        out += H.user(q)
        out += H.past_answer(a) if t + 1 < turns else H.answer(thoughts[effort], a)
    return out


# Tools.

def value_for(rng, arg, held):
    if arg in ENUMS:
        return pick(rng, ENUMS[arg]), {"type": "string", "enum": ENUMS[arg]}
    if arg in ("limit", "count", "year", "hour", "code", "id", "width", "radius") and chance(rng, 0.8):
        return between(rng, 1, 99) if arg != "year" else between(rng, 1900, 2030), {"type": pick(rng, ["integer", "number"])}
    r = rng.random()
    if r < (0.5 if held else 0.35):
        v = cap(made_up(rng, 2, 3))
    elif r < 0.6:
        v = CAPITALS[pick(rng, COUNTRIES)]
    elif r < 0.8:
        v = pick(rng, HELD_NAMES if held else NAMES)
    else:
        v = pick(rng, THINGS + FOODS + ANIMALS)
    if chance(rng, 0.1):
        v += " " + pick(rng, ["Street", "Park", "Bay", "Hill"])
    return v, {"type": "string"}


def styled(rng, verb, noun):
    r = rng.random()
    if r < 0.8:
        return verb + "_" + noun
    if r < 0.92:
        return verb.replace("_", "") + cap(noun)
    return noun + "_" + verb


class Tool:
    """A declared function, and one way of asking for it."""

    def __init__(self, rng, held, n_args=None):
        action = not held and chance(rng, 0.2)
        if action:
            noun, verbs = pick(rng, ACTIONS).split(":")
            verb = pick(rng, verbs.split(","))
        else:
            noun = pick(rng, HELD_TOOL_NOUNS if held else TOOL_NOUNS)
            verb = pick(rng, HELD_TOOL_VERBS if held else TOOL_VERBS)
        self.noun, self.words = noun, verb.replace("_", " ")
        self.name = styled(rng, verb, noun)
        if n_args is None:
            n_args = pick(rng, [0, 1, 1, 1, 1, 1, 1, 2, 2])
        self.args, props = {}, {}
        first = pick(rng, HELD_TOOL_ARGS if held else TOOL_ARGS)
        second = pick(rng, HELD_TOOL_ARGS_2 if held else TOOL_ARGS_2)
        for arg in [first, second][:n_args]:
            v, spec = value_for(rng, arg, held)
            if chance(rng, 0.4):
                spec["description"] = pick(rng, ["The {}", "Name of the {}", "The {} to use", "{}", "A {}"]).format(arg)
            self.args[arg], props[arg] = v, spec
        required = list(props)[:1] if chance(rng, 0.3) and n_args < 2 else list(props)
        self.spec = {"name": self.name, "description": cap(pick(rng, [
            self.words + " the " + noun, self.words + " " + noun, "returns the " + noun, self.words + " the current " + noun,
            "tool for the " + noun, self.words + " a " + noun])) + pick(rng, [".", ""]),
            "parameters": {"type": "object", "properties": props, "required": required}}
        vals = list(self.args.items())
        if not vals:
            q = pick(rng, ["{w} the {n}.", "What is the {n}?", "Please {w} the {n}.", "Can you {w} the {n}?", "I need the {n}."])
        else:
            q = pick(rng, ["{w} the {n} for {v}.", "What is the {n} in {v}?", "What is the {n} for {v}?", "What's the {n} of {v}?", "I need the {n} for {v}.",
                           "Can you {w} the {n} of {v}?", "Please {w} the {n} in {v}.", "{n} for {v}", "{n} in {v}?", "{v}: {n}?", "Give me the {n} for {v}.",
                           "How is the {n} in {v}?", "Tell me the {n} of {v}.", "{v} {n}?", "Use {name} for {v}.", "Call {name} with {a} {v}.",
                           "{w} the {n} with {a} {v}."])
        if len(vals) == 2:
            q = q.rstrip("?.") + pick(rng, [" with {b} {u}", ", {b} {u}", " and {b} {u}", " ({b}: {u})", " using {b} {u}"]) + pick(rng, ["", ".", "?"])
        fields = dict(w=self.words, n=noun, name=self.name)
        if vals:
            fields.update(a=vals[0][0], v=vals[0][1])
        if len(vals) == 2:
            fields.update(b=vals[1][0], u=vals[1][1])
        # A value keeps its letters: what is copied into the call must stand in the question.
        self.question = q.format(**fields) if q.startswith("{v}") else cap(q.format(**fields))
        self.arguments = json.dumps(self.args, separators=(",", ":"), ensure_ascii=False)


def result_of(rng, tool):
    """(what the tool returns, the sentence that uses it)"""
    if chance(rng, 0.12):
        e = pick(rng, ERRORS)
        return pick(rng, ['{"error":"%s"}', "error: %s", "Error: %s", '{"error": "%s"}']) % e, "The tool failed: " + e + "."
    r = rng.random()
    if r < 0.35:
        text = pick(rng, [str(between(rng, 0, 99)), pick(rng, RESULT_WORDS), "%d degrees" % between(rng, -9, 40), cap(made_up(rng)),
                          "%d:%02d" % (between(rng, 0, 23), between(rng, 0, 59)), pick(rng, RESULT_WORDS) + " and " + pick(rng, RESULT_WORDS)])
        return text, "The " + tool.noun + " is: " + text + "."
    pairs = {}
    for _ in range(pick(rng, [1, 1, 2])):
        pairs[pick(rng, RESULT_KEYS)] = between(rng, -9, 99) if chance(rng, 0.5) else pick(rng, RESULT_WORDS) if chance(rng, 0.7) else cap(made_up(rng))
    sep = (",", ":") if chance(rng, 0.6) else (", ", ": ")
    return (json.dumps(pairs, separators=sep), "The " + tool.noun + " is: " + ", ".join("%s %s" % kv for kv in pairs.items()) + ".")


def tool_thoughts(name):
    return think(name, "I call " + name + ".", "It fits the question.")


DONE = think("Result.", "The tool has answered.", "I tell the user.")


def tools(rng, held=False, n_functions=None, n_args=None, effort=None, round_trip=None):
    effort = effort or effort_of(rng)
    n = n_functions or pick(rng, [1, 1, 1, 2, 2, 3])
    declared = []
    while len(declared) < n:
        t = Tool(rng, held, n_args)
        if all(t.noun != d.noun for d in declared):
            declared.append(t)
    t = pick(rng, declared)
    out = preamble(rng, effort, [d.spec for d in declared])
    if n_functions is None and chance(rng, 0.15):
        # Functions are declared, but the question needs none.
        f = pick(rng, [greet, capital, arithmetic, fact])
        q, thoughts, a = f(rng, held)
        return out + H.user(q) + H.answer(thoughts[effort], a)
    if n_functions is None and chance(rng, 0.15):
        q, thoughts, a = pick(rng, [greet, capital])(rng, held)
        out += H.user(q) + H.past_answer(a)
    out += H.user(t.question if held else rough(rng, t.question) if chance(rng, 0.15) and not t.args else t.question)
    thoughts = tool_thoughts(t.name)[effort]
    if round_trip is None:
        round_trip = chance(rng, 0.45)
    if not round_trip:
        return out + H.call(thoughts, t.name, t.arguments)
    style = between(rng, 0, 2)
    if style == 0:
        out += H.call(thoughts, t.name, t.arguments)
    else:
        spaced = json.dumps(t.args, ensure_ascii=False)
        out += H.past_call(thoughts if chance(rng, 0.5) else "", t.name, spaced if chance(rng, 0.3) else t.arguments, style)
    text, final = result_of(rng, t)
    shown = json.dumps(text, ensure_ascii=False) if style == 2 else text
    out += H.tool_result(t.name, shown)
    return out + H.answer(DONE[effort], final)


def raw(rng, held=False):
    """Plain text without harmony: stories, from their beginning or from somewhere inside."""
    n = pick(rng, [1, 1, 1, 2, 3])
    text = "<|endoftext|>".join(stories.story(rng, pick(rng, ANIMALS)) for _ in range(n))
    if chance(rng, 0.15):
        cut = between(rng, 0, len(text) // 3)
        text = text[cut:].lstrip() if chance(rng, 0.5) else text[text.find(" ", cut) + 1:]
    return [(text + "<|endoftext|>", True)]


def drill(rng):
    """Short plain texts whose second half repeats the first: what teaches a model to look back and copy."""
    word = lambda: made_up(rng) if chance(rng, 0.6) else pick(rng, NAMES) if chance(rng, 0.3) else pick(rng, THINGS + FOODS + TOOL_NOUNS + TOOL_ARGS)
    r = rng.random()
    if r < 0.4:
        line = pick(rng, [" ", ", ", "\n"]).join(word() for _ in range(between(rng, 2, 8)))
        text = pick(rng, ["\n", "\n\n", " | ", " -> ", ": "]).join([line] * between(rng, 2, 4))
    elif r < 0.6:
        pairs = [(word(), word()) for _ in range(between(rng, 2, 6))]
        lines = ["%s: %s\n" % p for p in pairs]
        again = sorted(lines, key=lambda _: rng.random())
        text = "".join(lines) + "\n" + "".join(again)
    elif r < 0.8:
        pairs = {word(): word() if chance(rng, 0.7) else between(rng, 0, 999) for _ in range(between(rng, 1, 3))}
        sep = pick(rng, [" = ", " ", ": ", " is "])
        text = ", ".join(k + sep + str(v) for k, v in pairs.items()) + "\n" + json.dumps(pairs, separators=(",", ":")) + "\n"
    else:
        name = pick(rng, TOOL_VERBS) + "_" + (pick(rng, TOOL_NOUNS) if chance(rng, 0.5) else made_up(rng, 1, 2))
        arg, v = word(), cap(word())
        text = "type %s = (_: {\n%s: string,\n}) => any;\n\n%s to=functions.%s {\"%s\":\"%s\"}\n" % (name, arg, v, name, arg, v)
    return [(text + "<|endoftext|>", True)]


# Shares of the documents in each stage of the training; what is left is conversation.
STAGES = [dict(drill=0, raw=0.10, tools=0.26), dict(drill=0.3, raw=0.10, tools=0.26), dict(drill=0.2, raw=0.08, tools=0.42)]


def document(rng, held=False, stage=2):
    share = STAGES[stage]
    if share["drill"] and chance(rng, share["drill"]):
        return drill(rng)
    r = rng.random()
    if r < share["raw"]:
        return raw(rng, held)
    if r < share["raw"] + share["tools"]:
        return tools(rng, held)
    return conversation(rng, held)


if __name__ == "__main__":
    g = random.Random(1)
    for _ in range(12):
        print("".join(("\033[1m%s\033[0m" if learn else "%s") % text for text, learn in document(g)), "\n")
