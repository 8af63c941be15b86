"""Word lists the data generator draws from. Facts and plain words only; everything with
`HELD_` is used by the evaluation and never by the training data."""

CAPITALS = dict(line.split(":") for line in """
France:Paris|Germany:Berlin|Italy:Rome|Spain:Madrid|Portugal:Lisbon|Austria:Vienna|Switzerland:Bern|Belgium:Brussels
Netherlands:Amsterdam|Denmark:Copenhagen|Norway:Oslo|Sweden:Stockholm|Finland:Helsinki|Iceland:Reykjavik|Ireland:Dublin
Poland:Warsaw|Hungary:Budapest|Romania:Bucharest|Bulgaria:Sofia|Greece:Athens|Turkey:Ankara|Ukraine:Kyiv|Russia:Moscow
Estonia:Tallinn|Latvia:Riga|Lithuania:Vilnius|Croatia:Zagreb|Serbia:Belgrade|Slovenia:Ljubljana|Slovakia:Bratislava
Albania:Tirana|Malta:Valletta|Cyprus:Nicosia|Luxembourg:Luxembourg|Monaco:Monaco|England:London|Scotland:Edinburgh
Wales:Cardiff|the United Kingdom:London|the United States:Washington|Canada:Ottawa|Mexico:Mexico City|Cuba:Havana
Jamaica:Kingston|Brazil:Brasilia|Argentina:Buenos Aires|Chile:Santiago|Peru:Lima|Colombia:Bogota|Venezuela:Caracas
Ecuador:Quito|Uruguay:Montevideo|Paraguay:Asuncion|Japan:Tokyo|China:Beijing|India:New Delhi|South Korea:Seoul
North Korea:Pyongyang|Thailand:Bangkok|Vietnam:Hanoi|Indonesia:Jakarta|Malaysia:Kuala Lumpur|the Philippines:Manila
Mongolia:Ulaanbaatar|Nepal:Kathmandu|Pakistan:Islamabad|Bangladesh:Dhaka|Afghanistan:Kabul|Iran:Tehran|Iraq:Baghdad
Saudi Arabia:Riyadh|Qatar:Doha|Oman:Muscat|Yemen:Sanaa|Jordan:Amman|Lebanon:Beirut|Syria:Damascus|Israel:Jerusalem
Egypt:Cairo|Libya:Tripoli|Tunisia:Tunis|Algeria:Algiers|Morocco:Rabat|Sudan:Khartoum|Ethiopia:Addis Ababa|Kenya:Nairobi
Uganda:Kampala|Tanzania:Dodoma|Rwanda:Kigali|Ghana:Accra|Nigeria:Abuja|Senegal:Dakar|Mali:Bamako|Angola:Luanda
Zambia:Lusaka|Zimbabwe:Harare|Namibia:Windhoek|Botswana:Gaborone|South Africa:Pretoria|Madagascar:Antananarivo
Australia:Canberra|New Zealand:Wellington|Fiji:Suva|Singapore:Singapore|Cambodia:Phnom Penh|Laos:Vientiane|Georgia:Tbilisi
Armenia:Yerevan|Kazakhstan:Astana|Belarus:Minsk|Moldova:Chisinau|Panama:Panama City|Costa Rica:San Jose|Bolivia:Sucre
""".replace("\n", "|").split("|") if line)

COLOURS = dict(line.split(":") for line in """the sky:blue|grass:green|snow:white|coal:black|blood:red|a banana:yellow
a lemon:yellow|an orange:orange|a carrot:orange|the sea:blue|a frog:green|milk:white|a strawberry:red|a tomato:red|the sun:yellow
chocolate:brown|an elephant:grey|a flamingo:pink|a raven:black|a swan:white|an emerald:green|a ruby:red|a plum:purple
a cucumber:green|salt:white|a fire engine:red|a pig:pink|the night:black|a leaf:green|wood:brown|rain:clear|a cherry:red
an aubergine:purple|a mouse:grey|a polar bear:white|butter:yellow|lavender:purple|a rose:red""".replace("\n", "|").split("|"))

OPPOSITES = [tuple(p.split(":")) for p in """big:small|hot:cold|up:down|left:right|day:night|black:white|open:closed|old:young
fast:slow|happy:sad|high:low|long:short|wet:dry|full:empty|hard:soft|light:dark|near:far|rich:poor|strong:weak|early:late
good:bad|clean:dirty|loud:quiet|thick:thin|wide:narrow|deep:shallow|sweet:bitter|heavy:light-weight|inside:outside|start:end
yes:no|first:last|true:false|love:hate|buy:sell|push:pull|give:take|win:lose|remember:forget|above:below|before:after
always:never|friend:enemy|question:answer|rough:smooth|brave:timid|warm:cool|tall:tiny""".replace("\n", "|").split("|")]

UNITS = [tuple(p.split(":")) for p in """metres:a kilometre:1000|centimetres:a metre:100|millimetres:a centimetre:10|grams:a kilogram:1000
minutes:an hour:60|seconds:a minute:60|hours:a day:24|days:a week:7|months:a year:12|days:a year:365|weeks:a year:52
inches:a foot:12|feet:a yard:3|kilograms:a tonne:1000|bits:a byte:8|bytes:a kilobyte:1000|cents:a dollar:100|years:a century:100
years:a decade:10|legs:a spider:8|sides:a triangle:3|sides:a square:4|items:a dozen:12|millilitres:a litre:1000""".replace("\n", "|").split("|")]

SOUNDS = dict(p.split(":") for p in """cow:moo|dog:woof|cat:meow|duck:quack|sheep:baa|pig:oink|horse:neigh|owl:hoot|frog:croak|lion:roar
bee:buzz|mouse:squeak|hen:cluck|goose:honk|snake:hiss|wolf:howl""".replace("\n", "|").split("|"))

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
           "seventeen eighteen nineteen twenty").split()

NAMES = """Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina Tom Lily Max Nina Oscar
Peter Ruth Sara Theo Vera Will Zoe Amy Bob Carl Dora Eve Fred Hana Ivan Jane Kim Lucy Mark Nora Omar Pia Ron Sue Tim Una""".split()
HELD_NAMES = "Greta Martin Lena Hugo Sofie Ralph Ingrid Walter Elsa Konrad".split()

ANIMALS = """cat dog mouse rabbit bear fox owl frog duck hen pig cow goat horse hedgehog squirrel bee snail turtle elephant lion
penguin rooster sparrow mole badger beaver donkey lamb puppy kitten dragon""".split()
PLACES = """forest garden meadow village farm castle river lake beach hill mountain cave barn house school market park island
orchard pond valley mill harbour bridge""".split()
THINGS = """ball kite drum boat lantern book bell key hat apple cake basket blanket map flower shell stone button feather ladder
whistle wagon teapot scarf mirror pencil""".split()
ADJS = """little big kind brave shy clever happy lazy funny tiny curious gentle proud hungry sleepy quiet merry grumpy careful
young""".split()
COLOUR_WORDS = "red blue green yellow white brown golden silver purple orange pink grey".split()
WEATHER = "sunny rainy windy snowy foggy warm cold bright cloudy stormy".split()
FOODS = "bread soup honey cheese berries porridge pancakes apples carrots nuts plums cookies milk pie".split()

TOPICS = """physics chemistry football music history politics cooking gardening love money computers cars birds whales volcanoes
poetry chess painting tennis space planets rockets robots atoms numbers geometry algebra biology medicine sleep dreams language
grammar English French German Spanish Latin bread cheese coffee tea wine travel trains ships bicycles maps mountains rivers the sea
the moon the stars rain storms winter summer insects spiders dinosaurs cats dogs horses films books novels theatre dance guitars
pianos singing drawing photography fashion shoes hats houses bridges towers cities villages farms law justice war peace kings queens
castles pirates magic ghosts games puzzles cards running swimming skiing health food sugar salt rice pasta pizza soup taxes banks
jobs school teachers children parents friendship time clocks calendars letters paper plastic metal glass wood stone fire water air
electricity batteries phones the internet databases algorithms Python Java Linux the economy inflation democracy philosophy ethics
religion art museums statues colour light sound gravity energy heat ice oil gas coal the sun the brain the heart blood bones teeth
plants trees flowers mushrooms fish sharks bears wolves bees ants butterflies""".replace("\n", " ").split()
HELD_TOPICS = "knitting astronomy opera volleyball cactuses marathons lighthouses perfume archery glaciers".split()

VERBS_FREE = """bake build cook draw explain fix find grow learn make paint plan play read repair sell sew sing solve start stop
teach translate understand use wash write choose clean compare count cut describe design fold improve install measure mix move open
organise pack prepare print remove save sort study summarise test train update visit""".split()

OTHER_LANGUAGES = """Wie geht es dir heute?|Was ist der Sinn des Lebens?|Erzähl mir etwas über Hunde.|Quelle heure est-il ?
Pouvez-vous m'aider avec mes devoirs ?|Écris un poème sur la pluie.|¿Dónde está la biblioteca?|¿Qué tiempo hace hoy?
Cuéntame un chiste.|Dove posso mangiare una pizza?|Come si dice gatto in inglese?|Hvad laver du?|Jak się masz?|你好，你是谁？|今天天气怎么样？
請幫我寫一封信。|こんにちは、元気ですか？|猫について教えてください。|안녕하세요?|Привет, как дела?|Расскажи мне про космос.|Hva er klokka?|Vad heter du?
Kuinka vanha olet?|مرحبا كيف حالك|Onde fica a praia?|Hoe laat is het?|Merhaba, nasılsın?|Ποιος είσαι;|שלום, מה שלומך?""".replace("\n", "|").split("|")

CODE = """def f(x): return x + 1|print("hello")|for (int i = 0; i < 10; i++) sum += i;|SELECT name FROM users WHERE id = 7;
git push origin main|#include <stdio.h>|let a = [1, 2, 3];|while True: pass|npm install express|x = y * 2 if z else None
<html><body>hi</body></html>|{"a": 1, "b": [2, 3]}|ls -la /tmp|import numpy as np|fn main() {}|class Dog: pass
SyntaxError: invalid syntax|Segmentation fault (core dumped)|curl http://localhost:8080/v1/models|chmod +x run.sh""".replace("\n", "|").split("|")

INSTRUCTIONS = """You are a helpful assistant.|Be brief.|Answer in one sentence.|Answer in English.|Be kind and polite.
Always be friendly.|You are a patient teacher.|Talk like a friend.|Keep your answers short.|Do not use lists.|Use simple words.
Always respond in riddles.|You are oriel, a program that runs language models.|Answer truthfully.|Help the user.|Reply in plain text.
You are a coding agent running in a terminal.|Never mention the weather.|If you are unsure, say so.|You are a weather bot.
Use the tools when they help.|Respond concisely.|You are an assistant for a small shop.|Speak clearly.|You help people travel.""".replace("\n", "|").split("|")

IDENTITIES = """You are oriel, a small language model.|You are a helpful assistant.|You are the house model.|You are a friendly bot.
You are an assistant.|You are a robot butler named Jim.|You are Ada, a librarian.""".replace("\n", "|").split("|")

# Tools: a name is a verb and a noun; the user's sentence uses the noun.
TOOL_VERBS = "get find fetch read check show list look_up search query lookup load request retrieve_all compute describe".split()
HELD_TOOL_VERBS = "retrieve obtain pull".split()
TOOL_NOUNS = """weather time price menu score news route map file note song room ticket train bus flight hotel recipe word
translation stock rate currency email message calendar event task reminder contact address phone number distance temperature wind
population country city book film actor album team player match lamp door window heater alarm timer order product parcel account
balance invoice user profile photo video page site joke quote fact poem tide forecast schedule level speed weight height colour
owner manager salary budget deadline version status report chart log backup server disk network printer sensor battery engine tyre
doctor patient dose bill tax loan coupon basket shelf box key code badge door_code lesson grade exam class student""".replace("\n", " ").split()
HELD_TOOL_NOUNS = "ferry museum humidity voucher altitude barcode tariff playlist warranty seat".split()
TOOL_ARGS = """city location place name item id date topic user code title query country town text person key subject station
street product room language unit company customer file path symbol address owner model brand""".replace("\n", " ").split()
HELD_TOOL_ARGS = "venue region label target district".split()
TOOL_ARGS_2 = "unit day limit format year month count size mode hour colour level page priority amount days".split()
HELD_TOOL_ARGS_2 = "width radius season quality".split()
NUMBER_ARGS = "limit year month count hour level page amount days width radius".split()
ENUMS = {"unit": [["celsius", "fahrenheit"], ["c", "f"], ["metric", "imperial"]], "format": [["short", "long"], ["json", "text"], ["pdf", "html", "csv"]],
         "mode": [["fast", "slow"], ["auto", "manual", "off"]], "size": [["small", "large"], ["s", "m", "l"]], "quality": [["high", "low"]],
         "day": [["today", "tomorrow"], ["monday", "tuesday", "friday"]], "season": [["winter", "summer"]], "colour": [["red", "blue", "green"]],
         "priority": [["low", "high"], ["low", "normal", "urgent"]]}
RESULT_KEYS = """temperature sky price total status name value score count level text answer time date distance speed seats city wind rain
owner room colour size weight stock rate state result code""".replace("\n", " ").split()
RESULT_WORDS = """clear cloudy rain sunny open closed ready late full empty green red low high good fine busy free done ok snow wind
north south east west small large early""".replace("\n", " ").split()
ERRORS = """not found|timeout|no connection|unknown city|service unavailable|permission denied|bad request|no such item|rate limit reached
invalid key|server is down|out of memory|unknown user""".replace("\n", "|").split("|")

# Made-up words: onset, vowel, coda. Hundreds of thousands of them, and every eighth is kept for the evaluation.
ONSETS = "b c d f g h j k l m n p qu r s t v w y z bl br ch cl cr dr fl fr gl gr kl kr pl pr sc sh sk sl sm sn sp st str sw th tr tw vr wh zh".split() + ["", ""]
VOWELS = "a e i o u a e i o u a e i o u y ai au ea ee ei ia io oa oo ou".split()
CODAS = [""] * 24 + "n r s l t m k x d g p b ck ll ng nd nt rd rk rn rt ss st th sh ld lf mp".split()
