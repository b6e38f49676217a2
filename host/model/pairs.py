"""Pairs of questions that the verifier's weights are fitted to: one answer serves both (1), or it does not (0). All of it is our own.

A family is a list of ways to ask one thing of a slot. Two ways of one family with the same filling are a pair of the first kind; other fillings,
another family with the same filling, and a condition more or less make pairs of the second. Fillings are what people ask about, with a
word of the same meaning and one of another for some of their words.

What it does not do: the pairs of tests/fixtures/trust and of host/src/cache/verify/pairs.tsv are not among them; those are to test with.

Invariant: the same seed gives the same pairs in the same order.

Usage: python3 pairs.py PAIRS.tsv
"""

import random
import sys

# What is done: a phrase, the same in other words, something else that is near.
ACTS = """learn to draw|get better at drawing|learn to paint;improve my vocabulary|expand my vocabulary|improve my pronunciation;fix a leaking tap|repair a dripping faucet|fix a leaking roof
buy a used car|purchase a second-hand car|buy a new car;lose weight|get slimmer|lose hair;stop biting my nails|quit biting my nails|stop chewing gum;get rid of ants|get ants out of the house|get rid of mice
make cold brew coffee|brew cold coffee|make hot chocolate;remove rust from iron|get rust off iron|remove paint from iron;clean a cast iron pan|wash a cast iron pan|season a cast iron pan;grow basil|raise basil|dry basil
train for a triathlon|prepare for a triathlon|watch a triathlon;cure a headache|relieve a headache|prevent a headache;stay awake at night|keep awake at night|fall asleep at night;write a business plan|draft a business plan|sell a business plan
choose a mattress|pick a mattress|clean a mattress;find a cheap apartment|look for an affordable flat|find a cheap hotel;rent out a room|let a room|book a room;reset a router|restart a router|buy a router
restore a deleted file|recover a deleted file|encrypt a deleted file;rename a column in a table|change the name of a column in a table|sort a column in a table;merge two dictionaries|combine two dictionaries|compare two dictionaries
parse a date string|read a date from a string|format a date string;resize an image|change the size of an image|rotate an image;split a string by comma|separate a string at commas|join strings by comma;convert a string to an integer|turn a string into an int|compare a string to an integer
count words in a text|find the number of words in a text|count lines in a text;kill a running process|stop a running process|start a background process;schedule a cron job|set up a cron job|debug a cron job;deploy a web app|publish a web app|test a web app
speed up a query|make a query faster|explain a query;update a package|upgrade a package|publish a package;mock a function in a test|stub a function in a test|call a function in a test;share my screen|show my screen to others|lock my screen
change my phone number|update my phone number|hide my phone number;delete my search history|clear my search history|export my search history;upgrade my plan|switch to a better plan|pause my plan;apply for a refund|request a refund|refuse a refund
dispute a charge|contest a charge|explain a charge;open a savings account|set up a savings account|share a savings account;build a credit score|establish a credit history|check a credit score;pay off a student loan|get rid of a student loan|get a student loan
ask somebody out|ask someone on a date|turn somebody down;forgive a friend|pardon a friend|find a friend;deal with a rude colleague|handle a rude coworker|become a rude colleague;become a nurse|start a career as a nurse|marry a nurse
become a software engineer|start a career as a software developer|hire a software engineer;study for a math exam|prepare for a math exam|write a math exam;pass a driving test|succeed in a driving test|give a driving test;negotiate a salary|bargain over a salary|calculate a salary
publish a novel|get a novel published|review a novel;plan a wedding|organize a wedding|attend a wedding;pack a suitcase|fill a suitcase|repair a suitcase;travel with a baby|go on a trip with a baby|travel with a cat
bake sourdough bread|make sourdough bread|slice sourdough bread;sharpen a knife|make a knife sharp|clean a knife;store fresh herbs|keep fresh herbs|dry fresh herbs;thicken a sauce|make a sauce thicker|reheat a sauce
paint a wall|coat a wall with paint|paper a wall;hang a picture|put a picture on the wall|draw a picture;fix a squeaky door|stop a door from squeaking|paint a wooden door;unclog a toilet|clear a blocked toilet|install a toilet
treat a sunburn|heal a sunburn|avoid a sunburn;lower a fever|bring down a fever|measure a fever;strengthen my core|build a stronger core|stretch my back;run longer distances|run further|measure distances;overcome shyness|get over shyness|show affection"""

# Things: the name, the same in other words, something else that is near.
THINGS = """photovoltaic cells|solar cells|fuel cells;the common cold|a cold|the flu;black holes|a black hole|neutron stars;the stock market|the stock exchange|the job market;artificial intelligence|AI|virtual reality;global warming|climate change|air pollution
a hash table|a hash map|a binary tree;a closure|closures|a coroutine;dependency injection|DI|garbage collection;a load balancer|load balancers|a message queue;a deadlock|deadlocks|a race condition;unit testing|unit tests|load testing
gravity|gravitation|magnetism;the water cycle|the hydrological cycle|the carbon cycle;a heart attack|a cardiac infarction|a stroke;diabetes|diabetes mellitus|asthma;high blood pressure|hypertension|heart failure;migraine|migraines|vertigo
a mortgage|mortgages|a pension;an index fund|index funds|a hedge fund;inflation|rising prices|deflation;a trademark|trademarks|a patent;the French Revolution|the revolution in France|the Russian Revolution;the Cold War|the cold war era|the First World War
the Roman Empire|ancient Rome|the Ottoman Empire;the immune system|the body's immune system|the nervous system;caffeine|coffee's caffeine|nicotine;vitamin D|vitamin D supplements|vitamin C;yoga|doing yoga|pilates;green tea|tea made of green leaves|black tea
electric cars|electric vehicles|hybrid cars;wind power|wind energy|tidal power;a heat pump|heat pumps|a gas boiler;photosynthesis|the process of photosynthesis|respiration;a tornado|tornadoes|a hurricane;tsunamis|a tsunami|earthquakes
the theory of relativity|Einstein's relativity|quantum mechanics;a semiconductor|semiconductors|a superconductor;a compiler|compilers|an interpreter;the cloud|cloud computing|edge computing;two-factor authentication|2FA|single sign-on;a firewall|firewalls|a proxy"""

# Ways to ask one thing. {x}: an act; {t}: a thing.
ACT_FAMILIES = [
    """How do I {x}?|How can I {x}?|How to {x}?|What is the best way to {x}?|What's a good way to {x}?|What should I do to {x}?|What can I do to {x}?|What are the steps to {x}?|What are some ways to {x}?|How should I {x}?
|I want to {x}. How do I do that?|Can you explain how to {x}?|What is the easiest way to {x}?|How does one {x}?|Any tips to {x}?|Please tell me how to {x}.|How would you {x}?|Which is the best method to {x}?""",
    "Why should I {x}?|What is the point if I {x}?|What are reasons to {x}?|Why would anybody {x}?",
    "How long does it take to {x}?|How much time does it take to {x}?|How many hours do I need to {x}?",
    "How much does it cost to {x}?|What does it cost to {x}?|What is the price if I want to {x}?",
    "Is it hard to {x}?|Is it difficult to {x}?|How hard is it to {x}?",
    "When should I {x}?|When is the best time to {x}?|What is the right time to {x}?",
    "What do I need to {x}?|Which things are needed to {x}?|What equipment do I need to {x}?",
    "Who can help me {x}?|Whom can I ask to help me {x}?",
    "Should I {x}?|Is it a good idea to {x}?|Is it worth it to {x}?",
    "What happens if I {x}?|What will happen when I {x}?|What are the consequences if I {x}?",
    "What are common mistakes when I {x}?|Which mistakes do people make when they {x}?",
    "Is there a book about how to {x}?|Which book tells me how to {x}?",
]
THING_FAMILIES = [
    "What is {t}?|What's {t}?|Explain {t}.|Can you explain {t}?|What does {t} mean?|What is meant by {t}?|Tell me what {t} is.|Could you explain what {t} is?|How would you define {t}?|Give me a definition of {t}.",
    "How does {t} work?|What is the working principle of {t}?|Explain how {t} works.|In what way does {t} work?",
    "What are the advantages of {t}?|What are the benefits of {t}?|Which advantages does {t} have?|What are the pros of {t}?",
    "What are the disadvantages of {t}?|What are the drawbacks of {t}?|Which disadvantages does {t} have?|What are the cons of {t}?",
    "What causes {t}?|What is the cause of {t}?|What are the causes of {t}?|Where does {t} come from?",
    "What is the history of {t}?|How did {t} develop over time?|Tell me the history of {t}.",
    "What are examples of {t}?|Give me some examples of {t}.|Which examples of {t} are there?",
    "Is {t} dangerous?|How dangerous is {t}?|Can {t} be dangerous?",
    "What is {t} used for?|What are the uses of {t}?|What is the purpose of {t}?",
    "Who discovered {t}?|Who was the discoverer of {t}?|Which person discovered {t}?",
    "How is {t} measured?|How do you measure {t}?|How can I measure {t}?",
    "What is the future of {t}?|How will {t} change in the future?|What will become of {t}?",
    "What should a beginner know about {t}?|What do beginners need to know about {t}?",
    "How do I explain {t} to a child?|How can I explain {t} to a kid?|What is a simple way to explain {t} to a child?",
]
# What makes another question of one.
CONDITIONS = """for free|at home|without tools|on a budget|in a week|as a student|in Python|on a Mac|in winter|without an account|for a school project|in Germany|with a small baby|after surgery|at night|for an interview|in simple terms|online""".split("|")


def parts(text):
    return [entry.split("|") for line in text.splitlines() for entry in line.split(";")]


def ways(family):
    return [way.strip() for way in family.replace("\n", "").split("|")]


def with_condition(question, condition):
    return f"{question[:-1]} {condition}{question[-1]}"


def pairs(seed=1, each=1):
    chance = random.Random(seed)
    made = []
    for slot, fillings, families in (("{x}", parts(ACTS), ACT_FAMILIES), ("{t}", parts(THINGS), THING_FAMILIES)):
        families = [ways(family) for family in families]
        for name, same, other in fillings:
            for number, family in enumerate(families):
                for _ in range(each * (4 if number == 0 else 1)):
                    a, b = chance.sample(family, 2)
                    one = chance.choice(family)
                    fill = lambda way, filling: way.replace(slot, filling)
                    asked = fill(a, name)
                    # The same, in another way; and with another word for it.
                    made.append((asked, fill(b, name), 1))
                    made.append((asked, fill(chance.choice([a, b]), same), 1))
                    # The same way of something else that is near, or of anything else.
                    made.append((asked, fill(chance.choice([a, b]), other), 0))
                    made.append((asked, fill(one, chance.choice(fillings)[0]), 0) if chance.random() < 0.3 else (asked, fill(one, other), 0))
                    # Something else about the same.
                    foreign = chance.choice([ways for ways in families if ways is not family])
                    made.append((asked, fill(chance.choice(foreign), chance.choice([name, same])), 0))
                    # A condition more, or another one.
                    first, second = chance.sample(CONDITIONS, 2)
                    made.append((asked, with_condition(fill(b, name), first), 0))
                    made.append((with_condition(asked, first), with_condition(fill(a, name), second), 0))
                    made.append((with_condition(asked, first), with_condition(fill(b, name), first), 1))
    return [pair for pair in dict.fromkeys(made) if pair[0] != pair[1]]


def main():
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write("a\tb\tlabel\n")
        for a, b, label in pairs():
            file.write(f"{a}\t{b}\t{label}\n")


if __name__ == "__main__":
    main()
