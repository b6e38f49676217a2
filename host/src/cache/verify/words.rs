//! The words that guards look for. Lower case, without apostrophes' endings.

/// Each pair says the opposite of one another.
#[rustfmt::skip]
pub(super) const ANTONYMS: &[(&str, &str)] = &[
    ("on", "off"), ("open", "close"), ("open", "closed"), ("opening", "closing"), ("enable", "disable"), ("enabled", "disabled"),
    ("enabling", "disabling"), ("increase", "decrease"), ("increase", "reduce"), ("increasing", "decreasing"), ("raise", "lower"),
    ("rise", "fall"), ("rising", "falling"), ("grow", "shrink"), ("gain", "lose"), ("before", "after"), ("first", "last"),
    ("start", "stop"), ("start", "end"), ("begin", "end"), ("early", "late"), ("earliest", "latest"), ("min", "max"),
    ("minimum", "maximum"), ("minimize", "maximize"), ("least", "most"), ("fewer", "more"), ("less", "more"), ("few", "many"),
    ("buy", "sell"), ("lend", "borrow"), ("import", "export"), ("upload", "download"), ("send", "receive"), ("push", "pull"),
    ("input", "output"), ("install", "uninstall"), ("subscribe", "unsubscribe"), ("lock", "unlock"), ("mute", "unmute"),
    ("zip", "unzip"), ("load", "unload"), ("block", "unblock"), ("follow", "unfollow"), ("do", "undo"), ("always", "sometimes"),
    ("join", "leave"), ("most", "fewest"), ("absent", "present"), ("innocent", "guilty"), ("deposit", "withdraw"),
    ("lengthen", "shorten"), ("attack", "defend"), ("left", "right"), ("upper", "lower"), ("visible", "invisible"),
    ("known", "unknown"), ("formal", "informal"), ("direct", "indirect"), ("merge", "split"), ("freeze", "melt"),
    ("upgrade", "downgrade"), ("ingress", "egress"), ("horizontally", "vertically"), ("clockwise", "counterclockwise"),
    ("public", "secret"), ("optimistic", "pessimistic"), ("renewable", "nonrenewable"), ("sender", "receiver"),
    ("sender", "recipient"), ("question", "answer"), ("register", "unregister"), ("expand", "collapse"), ("inhale", "exhale"),
    ("aunt", "uncle"), ("king", "queen"), ("lender", "borrower"), ("winner", "loser"), ("singular", "plural"), ("ally", "enemy"),
    ("wholesale", "retail"), ("proven", "disproven"), ("prove", "disprove"), ("cheaper", "dearer"), ("stronger", "weaker"),
    ("harder", "easier"), ("heavier", "lighter"), ("taller", "shorter"), ("hotter", "colder"), ("warmer", "cooler"),
    ("richer", "poorer"), ("earlier", "later"), ("sooner", "later"), ("newer", "older"), ("oldest", "youngest"),
    ("longest", "shortest"), ("tallest", "shortest"), ("fastest", "slowest"), ("strongest", "weakest"), ("hardest", "easiest"),
    ("hottest", "coldest"), ("richest", "poorest"), ("encrypt", "decrypt"), ("encode", "decode"), ("compress", "decompress"),
    ("attach", "detach"), ("connect", "disconnect"), ("activate", "deactivate"), ("archive", "unarchive"), ("pin", "unpin"),
    ("mount", "unmount"), ("wrap", "unwrap"), ("hide", "show"), ("hide", "unhide"), ("add", "remove"), ("add", "subtract"),
    ("add", "delete"), ("create", "delete"), ("create", "destroy"), ("insert", "delete"), ("multiply", "divide"),
    ("accept", "reject"), ("accept", "decline"), ("approve", "deny"), ("approve", "reject"), ("allow", "forbid"),
    ("allow", "deny"), ("allow", "block"), ("permit", "forbid"), ("legal", "illegal"), ("possible", "impossible"),
    ("safe", "unsafe"), ("safe", "dangerous"), ("healthy", "unhealthy"), ("valid", "invalid"), ("secure", "insecure"),
    ("good", "bad"), ("best", "worst"), ("better", "worse"), ("right", "wrong"), ("right", "left"), ("true", "false"),
    ("correct", "incorrect"), ("positive", "negative"), ("high", "low"), ("higher", "lower"), ("highest", "lowest"),
    ("up", "down"), ("top", "bottom"), ("above", "below"), ("over", "under"), ("inside", "outside"), ("in", "out"),
    ("internal", "external"), ("indoor", "outdoor"), ("north", "south"), ("east", "west"), ("front", "back"),
    ("forward", "backward"), ("forwards", "backwards"), ("hot", "cold"), ("warm", "cool"), ("wet", "dry"), ("hard", "soft"),
    ("hard", "easy"), ("difficult", "easy"), ("strong", "weak"), ("heavy", "light"), ("dark", "light"), ("fast", "slow"),
    ("faster", "slower"), ("quick", "slow"), ("long", "short"), ("longer", "shorter"), ("tall", "short"), ("big", "small"),
    ("large", "small"), ("bigger", "smaller"), ("larger", "smaller"), ("largest", "smallest"), ("biggest", "smallest"),
    ("wide", "narrow"), ("thick", "thin"), ("deep", "shallow"), ("full", "empty"), ("new", "old"), ("newest", "oldest"),
    ("young", "old"), ("younger", "older"), ("modern", "ancient"), ("cheap", "expensive"), ("cheapest", "expensive"),
    ("rich", "poor"), ("public", "private"), ("free", "paid"), ("online", "offline"), ("sync", "async"),
    ("synchronous", "asynchronous"), ("static", "dynamic"), ("mutable", "immutable"), ("client", "server"), ("host", "guest"),
    ("local", "remote"), ("win", "lose"), ("won", "lost"), ("pass", "fail"), ("success", "failure"), ("succeed", "fail"),
    ("profit", "loss"), ("men", "women"), ("man", "woman"), ("male", "female"), ("boy", "girl"), ("boys", "girls"),
    ("husband", "wife"), ("father", "mother"), ("brother", "sister"), ("son", "daughter"), ("employer", "employee"),
    ("landlord", "tenant"), ("buyer", "seller"), ("teacher", "student"), ("doctor", "patient"), ("parent", "child"),
    ("debit", "credit"), ("arrive", "depart"), ("arrival", "departure"), ("enter", "exit"), ("entrance", "exit"),
    ("login", "logout"), ("come", "go"), ("give", "take"), ("save", "spend"), ("save", "discard"), ("always", "never"),
    ("everyone", "nobody"), ("everything", "nothing"), ("all", "none"), ("with", "without"), ("include", "exclude"),
    ("including", "excluding"), ("agree", "disagree"), ("agree", "refuse"), ("like", "dislike"), ("love", "hate"),
    ("happy", "sad"), ("friend", "enemy"), ("appear", "disappear"), ("same", "different"), ("alive", "dead"), ("born", "died"),
    ("birth", "death"), ("asleep", "awake"), ("odd", "even"), ("ascending", "descending"), ("vertical", "horizontal"),
    ("row", "column"), ("read", "write"), ("celsius", "fahrenheit"), ("km", "miles"), ("kilometers", "miles"), ("kg", "pounds"),
    ("am", "pm"), ("plus", "minus"), ("until", "after"), ("until", "before"), ("since", "until"), ("during", "after"), ("during", "before"),
    ("tighten", "loosen"), ("rise", "sink"), ("drop", "add"), ("drop", "create"), ("optional", "required"), ("optional", "mandatory"),
];

/// Words that turn a sentence round.
#[rustfmt::skip]
pub(super) const NEGATIONS: &[&str] = &[
    "not", "no", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "without", "hardly", "barely", "fail",
    "fails", "failed", "refuse", "refuses", "lack", "lacks", "except", "unless", "avoid",
];

/// What is asked for. "Which" is read as "what".
#[rustfmt::skip]
pub(super) const QUESTIONS: &[&str] = &[
    "who", "whom", "whose", "when", "where", "why", "how", "what", "whether", "many", "much", "often", "far", "old", "tall",
];

/// Who or what is meant: words of one group stand for the same. "My" is left out, since what I ask about is mine.
#[rustfmt::skip]
pub(super) const PRONOUNS: &[&[&str]] = &[
    &["he", "him", "his", "himself"], &["she", "her", "hers", "herself"], &["you", "your", "yours", "yourself"],
    &["they", "them", "their", "theirs", "themselves"], &["we", "us", "our", "ours", "ourselves"], &["it", "its", "itself"],
    &["i", "me", "myself"], &["this", "these", "here"],
];

/// Whoever asks, among [`PRONOUNS`].
pub(super) const WHO_ASKS: usize = 6;

/// Words that point at something.
pub(super) const POINTERS: &[&str] = &["this", "these", "here"];

/// Whether something is, was, will be, can be or should be.
#[rustfmt::skip]
pub(super) const MOODS: &[&[&str]] = &[
    &["was", "were", "did", "had"], &["will", "shall"], &["would"], &["should", "ought"], &["must"], &["can", "could"],
    &["may", "might"], &["being", "been"],
];

/// Times that are no numbers.
#[rustfmt::skip]
pub(super) const TIMES: &[&str] = &[
    "today", "tomorrow", "yesterday", "tonight", "now", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday",
    "sunday", "weekday", "weekend", "january", "february", "march", "april", "june", "july", "august", "september", "october",
    "november", "december", "spring", "summer", "autumn", "fall", "winter", "morning", "afternoon", "evening", "night", "noon",
    "midnight", "daily", "weekly", "monthly", "yearly", "annual", "annually", "second", "seconds", "minute", "minutes", "hour",
    "hours", "day", "days", "week", "weeks", "month", "months", "year", "years", "century", "decade", "current", "currently",
    "previous", "next", "past", "future", "ago", "since", "until", "recent", "latest", "yet", "still", "already", "soon",
];

/// Units: words of one group are the same unit. A number with another one is another number.
#[rustfmt::skip]
pub(super) const UNITS: &[&[&str]] = &[
    &["kg", "kgs", "kilo", "kilos", "kilogram", "kilograms"], &["g", "gram", "grams"], &["mg", "milligram", "milligrams"],
    &["lb", "lbs", "pound", "pounds"], &["oz", "ounce", "ounces"], &["ton", "tons", "tonne", "tonnes"],
    &["km", "kilometer", "kilometers", "kilometre", "kilometres"], &["mile", "miles"], &["m", "meter", "meters", "metre", "metres"],
    &["cm", "centimeter", "centimeters", "centimetre", "centimetres"], &["mm", "millimeter", "millimeters"],
    &["ft", "foot", "feet"], &["inch", "inches"], &["yard", "yards"], &["mph"], &["km/h", "kmh", "kph"], &["knots"],
    &["l", "liter", "liters", "litre", "litres"], &["ml", "milliliter", "milliliters"], &["gallon", "gallons"], &["cup", "cups"],
    &["pint", "pints"], &["tablespoon", "tablespoons"], &["teaspoon", "teaspoons"], &["celsius"], &["fahrenheit"], &["kelvin"],
    &["ms", "millisecond", "milliseconds"], &["s", "sec", "secs", "second", "seconds"], &["min", "mins", "minute", "minutes"],
    &["h", "hr", "hrs", "hour", "hours"], &["day", "days"], &["week", "weeks"], &["month", "months"], &["year", "years"],
    &["b", "byte", "bytes"], &["bit", "bits"], &["kb", "kilobyte", "kilobytes"], &["mb", "megabyte", "megabytes"],
    &["gb", "gigabyte", "gigabytes"], &["tb", "terabyte", "terabytes"], &["dollar", "dollars", "usd"], &["euro", "euros", "eur"],
    &["peso", "pesos"], &["rupee", "rupees", "inr", "rs"], &["yen"], &["yuan"], &["franc", "francs"], &["lakh", "lakhs"],
    &["crore", "crores"], &["watt", "watts"], &["kw", "kilowatt", "kilowatts"], &["volt", "volts"], &["calorie", "calories"],
    &["percent", "%"], &["degrees", "degree"], &["acre", "acres"], &["hectare", "hectares"],
];

/// Numbers in words.
#[rustfmt::skip]
pub(super) const NUMBERS: &[(&str, &str)] = &[
    ("zero", "0"), ("two", "2"), ("three", "3"), ("four", "4"), ("five", "5"), ("six", "6"), ("seven", "7"), ("eight", "8"),
    ("nine", "9"), ("ten", "10"), ("eleven", "11"), ("twelve", "12"), ("thirteen", "13"), ("fourteen", "14"), ("fifteen", "15"),
    ("sixteen", "16"), ("seventeen", "17"), ("eighteen", "18"), ("nineteen", "19"), ("twenty", "20"), ("thirty", "30"),
    ("forty", "40"), ("fifty", "50"), ("sixty", "60"), ("seventy", "70"), ("eighty", "80"), ("ninety", "90"), ("hundred", "100"),
    ("thousand", "1000"), ("million", "1000000"), ("billion", "1000000000"), ("half", "1/2"), ("quarter", "1/4"),
    ("third", "3rd"), ("double", "x2"), ("twice", "x2"), ("triple", "x3"), ("dozen", "12"), ("fourth", "4th"), ("fifth", "5th"),
    ("once", "x1"),
];

/// Words that may be there or not: articles, forms of to be, emphasis. What another guard looks for (questions, pronouns,
/// moods) is among them, since that guard sees to it.
#[rustfmt::skip]
pub(super) const STOP: &[&str] = &[
    "a", "an", "the", "is", "are", "am", "be", "was", "were", "been", "being", "do", "does", "did", "had", "can", "could", "will",
    "would", "shall", "should", "may", "might", "must", "to", "of", "that", "there", "i", "me", "my", "mine", "myself", "you",
    "your", "yours", "yourself", "he", "him", "his", "himself", "she", "her", "hers", "herself", "it", "its", "itself", "we",
    "us", "our", "ours", "ourselves", "they", "them", "their", "theirs", "themselves", "this", "these", "here", "who", "what",
    "how", "when", "where", "why", "just", "really", "actually", "exactly", "so", "also", "and", "some", "any",
];

/// What is written with an apostrophe, or should be, in full.
#[rustfmt::skip]
pub(super) const CONTRACTED: &[(&str, &str)] = &[
    ("can't", "can not"), ("cannot", "can not"), ("won't", "will not"), ("shan't", "shall not"), ("ain't", "is not"),
    ("cant", "can not"), ("dont", "do not"), ("doesnt", "does not"), ("didnt", "did not"), ("wont", "will not"),
    ("isnt", "is not"), ("arent", "are not"), ("wasnt", "was not"), ("shouldnt", "should not"), ("couldnt", "could not"),
    ("wouldnt", "would not"), ("whats", "what is"), ("what's", "what is"), ("how's", "how is"), ("where's", "where is"),
    ("who's", "who is"), ("when's", "when is"), ("why's", "why is"), ("that's", "that is"), ("there's", "there is"),
    ("it's", "it is"), ("he's", "he is"), ("she's", "she is"), ("im", "i am"), ("let's", "let us"),
];

/// Other spellings and other words for the same, wherever they stand.
#[rustfmt::skip]
pub(super) const SAME: &[(&str, &str)] = &[
    ("which", "what"), ("has", "have"), ("&", "and"), ("u", "you"), ("ur", "your"), ("colour", "color"), ("colours", "colors"),
    ("favourite", "favorite"), ("centre", "center"), ("behaviour", "behavior"), ("neighbour", "neighbor"), ("labour", "labor"),
    ("organise", "organize"), ("optimise", "optimize"), ("summarise", "summarize"), ("analyse", "analyze"),
    ("licence", "license"), ("grey", "gray"), ("programme", "program"), ("purchase", "buy"), ("okay", "ok"), ("versus", "vs"),
    ("automobile", "car"), ("tv", "television"), ("info", "information"), ("maths", "math"), ("usa", "united-states"),
    ("u.s.a", "united-states"), ("u.s", "united-states"), ("uk", "united-kingdom"), ("u.k", "united-kingdom"),
    ("kids", "children"), ("kid", "child"), ("mom", "mother"), ("mum", "mother"), ("dad", "father"), ("begin", "start"),
    ("begins", "starts"), ("repair", "fix"), ("photograph", "photo"), ("cellphone", "phone"), ("anybody", "anyone"),
    ("somebody", "someone"), ("everybody", "everyone"),
];

/// Phrases that say no more than that an answer is wanted, or how: a pattern (alternatives by `|`; a word with a full stop
/// must end a clause), what stands for it (`=`: its first word), and how many of its last words stay.
#[rustfmt::skip]
pub(super) const FRAMES: &[(&str, &str, usize)] = &[
    ("hello|hi|hey there.", "", 0), ("hello|hi|hey.", "", 0), ("thanks in advance.", "", 0), ("thank you in advance.", "", 0),
    ("thanks.", "", 0), ("thank you.", "", 0), ("please|pls|kindly", "", 0),
    ("can|could|will|would you please|kindly|pls", "", 0),
    ("can|could|will|would you tell|explain|show|describe|list|write|give|translate|summarize|compare|suggest|recommend", "", 1),
    ("can|could anyone|someone please|kindly", "", 0), ("can|could anyone|someone tell|explain|show", "", 1),
    ("tell|explain|show me how|what|why|when|where|who|whether", "", 1), ("explain to me how|what|why|when|where|who", "", 1),
    ("explain how|what|why|when|where|who", "", 1), ("tell|explain|show how|what|why|when|where|who", "", 1),
    ("i want|need|wish to know how|what|why|when|where|who|whether", "", 1),
    ("i would like|love to know how|what|why|when|where|who|whether", "", 1),
    ("i am|was wondering how|what|why|when|where|who|whether", "", 1),
    ("do|does you|anyone|someone know how|what|why|when|where|who", "", 1), ("how|where do|can|could i|one", "=", 0),
    ("how does one", "=", 0), ("how i", "=", 0), ("how|where to", "=", 0),
    ("what is|are the|a|some best|good way|ways to", "how", 0), ("what is|are the|a|some way|ways to", "how", 0),
    ("what is|are best|good way|ways to", "how", 0),
];
