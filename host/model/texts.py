"""Text that the built-in model is fitted on, none of it anybody's but free to use: glosses, examples and lemmas of WordNet
(Princeton's licence), and questions and instructions that a grammar of our own makes from those lemmas.

What it does not do: it reads no questions that people asked. Those that exist with labels may not be shipped from.

Invariant: the same WordNet, counts and seed give the same texts in the same order.
"""

import re

import numpy as np

KINDS = {"noun": "1", "verb": "2", "adj": "35", "adv": "4"}

# WordNet is of 2006. What people ask models about is often younger.
MODERN = {
    "noun": """account|password|email|api|api key|app|android|iphone|browser|bug|build|button|cache|certificate|chatbot|class|cloud|cluster|code|column|commit|config file|container|cookie|csv file|dashboard|database
|dataframe|dataset|deployment|dictionary|docker image|domain|endpoint|error message|excel sheet|exception|firewall|folder|function|git branch|gpu|graph|hard drive|html page|image|index|integer|invoice|ip address|java class
|javascript|json file|kubernetes|laptop|library|linear regression|linux server|list|log file|loop|machine learning model|memory leak|mobile phone|module|network|neural network|node|notification|npm package|object|operating system
|order|package|page|password manager|payment|pdf|pipeline|plugin|podcast|pointer|pull request|python script|query|queue|react component|record|refund|regex|repository|request|router|row|rust crate|schema|screenshot|script|search engine
|server|session|smart watch|smartphone|social media post|software|spreadsheet|sql query|stack trace|startup|string|subscription|table|tablet|template|terminal|test|text file|thread|token|tracking number|tweet|unit test|update|url|user
|username|variable|video|video game|virtual machine|vpn|web page|website|wifi|windows|word document|workflow|xml|youtube video|resume|cover letter|job interview|salary|mortgage|visa|passport|flight|hotel|recipe|workout|diet|weight
|credit card|bank account|tax return|insurance|college|university|degree|exam|essay|boyfriend|girlfriend|english|language|government|election|president|movie|series|song|book|car|battery|camera|phone|internet|money|business|company""",
    "verb": """install|uninstall|update|upgrade|download|upload|delete|remove|add|create|open|close|enable|disable|activate|reset|change|configure|connect|deploy|debug|fix|format|parse|sort|merge|split|convert|encrypt|export|import|compile
|test|run|start|stop|restart|write|read|print|send|receive|buy|sell|book|cancel|renew|apply for|sign up for|log in to|learn|study|improve|find|choose|make|build|use|get|lose|gain|save|earn|invest in|prepare for|deal with|get rid of
|optimize|refactor|query|filter|scale|monitor|share|block|unlock|recover|restore|verify|translate|summarize|review|edit|rename|copy|move|join""",
    "adj": """online|digital|open source|free|mobile|wireless|automatic|electric|default|empty|missing|invalid|slow|fast|new|old|best|cheap|expensive|safe|secure|easy|difficult|common|popular|local|remote|public|private|static
|dynamic|nested|duplicate|temporary|broken|large|small|international|legal|healthy|natural|possible|important|good|bad|great|effective|useful""",
    "adv": "online|offline|automatically|quickly|easily|safely|properly|for free|at home|from scratch|step by step|in general|in detail|efficiently",
}

# A rule's alternatives; {name} is a rule again, or one of the kinds of lemma.
GRAMMAR = {
    "text": """{question}|{question}|{question}|{question}|{instruction}|{instruction}|{situation}|{statement}""",
    "question": """{how} {act}?|{how} {act}?|{how} {act} {tail}?|{how} {act} {tail}?|{yes} {act}?|{yes} {act} {tail}?|{why} {act}?|{when} {act}?|{when} {act} {tail}?|what {is} {thing}?|what {is} the {attribute} of {thing}?
|what {is} the best {noun} for {thing}?|what are some {adj} {noun} {tail}?|what happens if {who} {act}?|what does {thing} {mean}?|what do you think {about} {thing}?|which {noun} is the {most}, {thing} or {thing}?|which {noun} is {adj}?
|why {is} {thing} so {adj}?|why {is} {thing} {comparative} than {thing}?|who {made} {thing}?|where can i {find} {thing} {tail}?|where {is} {thing}?|when {was} {thing} {made}?|how {much} {thing} {cost}?|how long does it take to {act}?
|how does {thing} work?|how does {thing} compare to {thing}?|how {adj} is {thing}?|how do you know if {thing} is {adj}?|is {thing} {comparative} than {thing}?|is {thing} {adj}?|is it {adj} to {act}?|is there {thing} {tail}?|are {noun} {adj}?
|does {thing} {verb} {thing}?|do {noun} {verb} {noun}?|should i {verb} or {verb} {thing}?|has anyone ever {verb} {thing}?|what is the difference between {thing} and {thing}?|what are the {attribute} of {thing} and {thing}?
|what would happen if {noun} {verb} {noun}?|what is it like to {act}?|which {noun} should {who} {verb} {tail}?|{thing}: {how} {act}?|{thing} or {thing}, which is {comparative}?|who is {thing} and what did they {verb}?""",
    "instruction": """{please}{tell} {thing} {audience}.|{please}{tell} {thing}.|{please}{tell} how to {act}.|{please}write {work} about {thing}.|{please}write {work} about {thing} and {thing} {tail}.|{please}list {number} {noun} {tail}.
|{please}give me {number} {adj} ideas for {thing}.|{please}translate "{thing}" into {language}.|{please}write a {code} function that {verb}s {thing} and returns {thing}.|{please}compare {thing} with {thing}.|{please}help me {act}.
|{please}summarize the text about {thing} in {number} sentences.|{please}fix the {noun} in my {code} code.|{please}rewrite this {noun} so that it is {adj}.|{please}classify the {noun} as {adj} or {adj}.
|{please}{act} {tail}.|{please}show me {thing}.|{please}find the {attribute} of {thing}.|{please}calculate the {attribute} of {number} {noun}.|{please}convert {number} {unit} to {unit}.|{please}suggest {thing} for {thing}.""",
    "situation": """my {noun} {fails}. what can i do?|my {noun} {fails} {tail}. how do i fix it?|i want to {act} {tail}. what should i {verb}?|i {have} {thing} and i want to {act}.|i am {age} years old. can i {act}?|{thing} says {thing}. {yes} {act}?
|i tried to {act} but {thing} {fails}.|i lost my {noun}. {how} {act}?|you are {thing}. {tell} {thing}.|i am {thing} in {noun}. should i {act} or {act}?""",
    "statement": """{thing} is {adj}.|{thing} is {comparative} than {thing}.|{noun} {verb} {noun} {adv}.|{thing} and {thing}|{adj} {noun} {tail}|how to {act}|how to {act} {tail}|{noun} {noun}|{noun}|{verb} {noun}|{adj} {noun}|{thing} vs {thing}|best {noun} for {noun}
|the {attribute} of {thing}|{noun} not {verb}ing|difference between {noun} and {noun}""",
    "how": """how do i|how do i|how can i|how to|how can one|how do you|how should i|how would you|how could we|what is the best way to|what is the easiest way to|what's the fastest way to|what should i do to|what do i need to|what are the steps to|what is a good way to
|is there a way to|how does one|i want to know how to|can you tell me how to|could you explain how to|what are some ways to""",
    "yes": "can i|can you|can we|could i|should i|should we|should you|do i need to|do you|would you|will i|is it possible to|is it safe to|is it legal to|is it a good idea to|am i allowed to|must i|is it worth it to|does anyone|did you ever",
    "why": "why do people|why do we|why should i|why can't i|why do some people|why did they|why would anyone|why don't people|why does my {noun}|why is it {adj} to|why is it important to",
    "when": "when should i|when can i|when do i|when is the best time to|where can i|where do people|where should i|how often should i|how long can i|how soon can i|who can",
    "act": "{verb} {thing}|{verb} {thing}|{verb} {thing}|{verb} my {noun}|{verb} {thing} {prep} {thing}|{verb} {adv}|{verb}|{verb} {noun} and {noun}|{adv} {verb} {thing}|not {verb} {thing}|{verb} without {thing}|stop {verb}ing {thing}|be {adj}|become {thing}|be more {adj}",
    "thing": "a {noun}|the {noun}|{noun}|{noun}|{noun}|my {noun}|your {noun}|{adj} {noun}|a {adj} {noun}|the {adj} {noun}|{noun} {noun}|this {noun}|the {noun} of {noun}|some {noun}|{noun} in {noun}",
    "tail": """in {noun}|in {noun}|for {noun}|with {noun}|without {noun}|on {noun}|from {noun}|to {noun}|of {noun}|for beginners|in {number} days|before {noun}|after {noun}|in {code}|on windows|on linux|on my phone|for free|at home|in india|in the united states|in the uk
|in {year}|for less than {number} dollars|by myself|every day|as a {noun}|by {noun}|about {noun}|{adv}|at work|at the age of {age}|in the world|during {noun}|while {noun}|other than {noun}|using {noun}|under {noun}""",
    "prep": "in|on|to|from|with|into|for|at|by|through|over|between|as",
    "is": "is|are|was",
    "was": "was|were|will|did",
    "mean": "mean|do|look like|cost|say|contain",
    "about": "about|of",
    "attribute": """capital|meaning|purpose|cause|causes|effect|effects|symptoms|benefits|advantages|disadvantages|price|cost|size|age|height|weight|colour|history|population|role|function|structure|importance|pros and cons|definition|value|length|speed|name|origin
|best part|worst part|most important part|future|risk|rules|average|sum|number|percentage|temperature|distance""",
    "most": "best|worst|most {adj}|least {adj}|biggest|smallest|cheapest|fastest|oldest|newest|easiest",
    "comparative": "better|worse|more {adj}|less {adj}|faster|slower|cheaper|bigger|smaller|older|safer|easier|harder|healthier",
    "made": "invented|made|wrote|discovered|built|owns|started|created|killed|won|won the {noun} in|released|founded",
    "find": "find|buy|get|watch|download|learn about|see|sell|study|report",
    "much": "much does|many people use|much money does|many calories are in|much time does|many {noun} does|far is|big is|old is|tall is",
    "cost": "cost|have|need|weigh|contain|take|use|from {noun}",
    "who": "i|you|we|they|he|she|someone|people|my {noun}",
    "please": "||||please |can you |could you please |i need you to |",
    "tell": "explain|describe|tell me about|what can you say about|give an overview of|define|discuss|write about|outline",
    "audience": "to a beginner|to a child|in simple terms|in one sentence|in {number} words|like i am five|in detail|with examples|step by step|in {language}",
    "work": "a short story|a poem|an essay|a blog post|an email|a letter|a report|a tweet|a speech|a review|a product description|an article|a song|a joke|a dialogue|a summary|a slogan|a script|a paragraph|a recipe",
    "language": "french|german|spanish|english|chinese|japanese|italian|hindi|russian|arabic|portuguese|korean",
    "code": "python|java|javascript|c++|c|rust|go|sql|typescript|php|ruby|bash|r|excel|swift|kotlin",
    "fails": "does not {verb}|won't {verb}|is not working|is broken|keeps {verb}ing|is {adj}|stopped working|is too {adj}|hurts|has disappeared|cannot {verb} {noun}|was {verb}ed",
    "have": "have|need|am looking for|found|bought|lost|work on|study|hate|love",
    "number": "one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|fifty|hundred|1|2|3|4|5|6|7|8|10|12|15|20|24|25|30|40|50|60|75|80|90|100|120|150|200|250|300|400|500|1000|2000|5000|10000|100000|1.5|2.5|50%|10%|$100|$50|1st|2nd|3rd|a million",
    "age": "5|10|12|13|14|15|16|17|18|19|20|21|22|23|25|28|30|35|40|45|50|60|65|70",
    "year": "1900|1914|1945|1950|1969|1980|1990|1999|2000|2005|2008|2010|2012|2014|2015|2016|2017|2018|2019|2020|2021|2022|2023|2024|2025|2026|january|february|march|april|may|june|july|august|september|october|november|december|monday|friday|sunday|summer|winter",
    "unit": "miles|kilometers|meters|feet|inches|pounds|kilograms|kg|grams|ounces|liters|gallons|celsius|fahrenheit|dollars|euros|rupees|pounds sterling|hours|minutes|seconds|days|weeks|years|bytes|megabytes|gigabytes|bits",
}


def glosses(folder):
    """Every gloss and every example, in the order of the files."""
    texts = []
    for kind in KINDS:
        for line in open(folder / f"data.{kind}", encoding="utf-8", errors="replace"):
            if not line.startswith("  "):
                gloss = line.split(" | ", 1)[1].strip()
                texts += [part.strip('" ') for part in re.split(r'; (?=")', gloss)]
    return [text for text in dict.fromkeys(texts) if text]


def lemmas(folder):
    """By kind: words of at most two parts, and how often each occurs in the texts that WordNet's authors tagged."""
    found = {kind: {} for kind in KINDS}
    for kind, words in found.items():
        for line in open(folder / f"index.{kind}", encoding="utf-8", errors="replace"):
            word = line.split(" ", 1)[0]
            if word and word.count("_") < 2 and len(word) > 2:
                words[word.replace("_", " ")] = 0
    for line in open(folder / "cntlist.rev", encoding="utf-8", errors="replace"):
        sense, _, count = line.split()
        word, key = sense.replace("_", " ").split("%")
        for kind, digits in KINDS.items():
            if key[0] in digits and word in found[kind]:
                found[kind][word] += int(count)
    return {kind: (sorted(words), np.array([words[word] for word in sorted(words)], float)) for kind, words in found.items()}


class Grammar:
    """Makes texts. A slot for a lemma is filled in equal parts from the common ones, from all, and from MODERN.

    Chance is a list of numbers that is kept: with one of them changed, the same list makes a text that differs in one place.
    """

    def __init__(self, words, rng):
        self.rng = rng
        self.rules = {name: text.replace("\n", "").split("|") for name, text in GRAMMAR.items()}
        self.modern = {kind: text.replace("\n", "").split("|") for kind, text in MODERN.items()}
        self.words = {kind: (list(names), np.cumsum(counts) / counts.sum()) for kind, (names, counts) in words.items()}

    def chance(self):
        if self.at == len(self.draws):
            self.draws.append(self.rng.random())
        self.at += 1
        return self.draws[self.at - 1]

    def one_of(self, some):
        return some[int(self.chance() * len(some))]

    def expand(self, name):
        if name not in self.words:
            return re.sub(r"\{(\w+)\}", lambda slot: self.expand(slot[1]), self.one_of(self.rules[name]))
        names, shares = self.words[name]
        source = int(self.chance() * 3)
        if source == 0:
            return names[min(int(np.searchsorted(shares, self.chance(), side="right")), len(names) - 1)]
        return self.one_of(names if source == 1 else self.modern[name])

    def text(self, draws=()):
        self.draws, self.at = list(draws), 0
        return self.expand("text")

    def group(self, size):
        """A text, and others that each differ from it in one place."""
        texts = [self.text()]
        draws = self.draws[: self.at]
        while len(texts) < size:
            changed = list(draws)
            changed[self.rng.integers(len(changed))] = self.rng.random()
            texts.append(self.text(changed))
        return texts


def without_a_word(text, rng):
    words = text.split()
    if len(words) > 2:
        del words[rng.integers(len(words))]
    return " ".join(words)


def corpus(folder, shorter, groups, seed):
    """Each text once: all of WordNet's, some of them a second time without one of their words, and of our own in groups of
    three that are near one another."""
    rng = np.random.default_rng(seed)
    found = glosses(folder)
    found = [found[place] for place in rng.permutation(len(found))]
    found += [without_a_word(text, rng) for text in found[:shorter]]
    grammar = Grammar(lemmas(folder), rng)
    found += [text for _ in range(groups) for text in grammar.group(3)]
    return list(dict.fromkeys(found))
