/* Functions the model may call. They run here in the browser, reach no network, change nothing, and take
 * their arguments as what they are: text a model made up. */

const text = description => ({ type: "string", description });
const parameters = properties => ({ type: "object", properties, required: Object.keys(properties), additionalProperties: false });

export const TOOLS = {
    current_time: {
        label: "Clock",
        description: "The date and time now in a time zone",
        parameters: parameters({ timezone: text("for example Europe/Paris, or UTC") }),
        run: ({ timezone }) => currentTime(timezone),
    },
    calculate: {
        label: "Calculator",
        description: "The value of an arithmetic expression",
        parameters: parameters({ expression: text("for example (2 + 3) * 4 ^ 2") }),
        run: ({ expression }) => String(calculate(expression)),
    },
    roll_dice: {
        label: "Dice",
        description: "Rolls dice",
        parameters: parameters({ dice: text("how many and with how many sides, for example 2d6") }),
        run: ({ dice }) => rollDice(dice),
    },
};

export const declareTools = names => names.filter(name => Object.hasOwn(TOOLS, name)).map(name => ({
    type: "function",
    function: { name, description: TOOLS[name].description, parameters: TOOLS[name].parameters },
}));

/* The result as the model gets it. Whatever is wrong with a call is a result too: it may try again. */
export function runTool(name, args) {
    if (!Object.hasOwn(TOOLS, name)) return { failed: true, text: `Error: there is no function called ${name}.` };
    try {
        const values = JSON.parse(args || "{}");
        if (values === null || typeof values !== "object") throw new Error("the arguments are not an object");
        return { failed: false, text: TOOLS[name].run(values) };
    } catch (e) {
        return { failed: true, text: `Error: ${e.message}` };
    }
}

function currentTime(timezone) {
    const name = String(timezone ?? "").trim().replaceAll(" ", "_");
    // A city alone will do.
    const zone = Intl.supportedValuesOf("timeZone").find(z => z.toLowerCase().endsWith(`/${name.toLowerCase()}`)) ?? (name || undefined);
    return new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long", timeZone: zone }).format(new Date());
}

function rollDice(dice) {
    const found = /^\s*(\d{0,3})\s*d\s*(\d{1,6})\s*$/i.exec(String(dice ?? "1d6"));
    const count = Number(found?.[1] || 1), sides = Number(found?.[2]);
    if (!found || count < 1 || count > 100 || sides < 2) throw new Error("dice look like 2d6, at most 100 of them");
    const rolls = Array.from({ length: count }, () => 1 + randomBelow(sides));
    return rolls.length === 1 ? String(rolls[0]) : `${rolls.join(" + ")} = ${rolls.reduce((a, b) => a + b)}`;
}

/* Every value equally often: draws from the incomplete last stretch are thrown away. */
function randomBelow(n) {
    const draw = new Uint32Array(1), limit = 2 ** 32 - (2 ** 32 % n);
    do crypto.getRandomValues(draw);
    while (draw[0] >= limit);
    return draw[0] % n;
}

/* ── the calculator: numbers, + - * / % ^, parentheses, a few functions and constants ── */

const CONSTANTS = { pi: Math.PI, e: Math.E };
const FUNCTIONS = ["sqrt", "abs", "round", "floor", "ceil", "exp", "log", "log2", "log10", "sin", "cos", "tan"];
const OPERATORS = {
    "+": [1, (a, b) => a + b],
    "-": [1, (a, b) => a - b],
    "*": [2, (a, b) => a * b],
    "/": [2, (a, b) => a / b],
    "%": [2, (a, b) => a % b],
};
const MAX_EXPRESSION = 1000; // characters: bounds the depth as well

export function calculate(source) {
    const plain = String(source ?? "").replaceAll("×", "*").replaceAll("÷", "/").replaceAll("−", "-").replaceAll("**", "^");
    if (plain.length > MAX_EXPRESSION) throw new Error("the expression is too long");
    const tokens = plain.match(/\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|[a-z]+\d*|[^\s]/gi) ?? [];
    let at = 0;
    const take = token => tokens[at] === token && ++at > 0;
    const need = token => {
        if (!take(token)) throw new Error(`'${token}' expected ${tokens[at] ? `before '${tokens[at]}'` : "at the end"}`);
    };

    function sum(precedence) { // operators at least as strong as this
        let value = signed();
        for (let op; (op = OPERATORS[tokens[at]]) && op[0] >= precedence;) {
            at++;
            value = op[1](value, sum(op[0] + 1));
        }
        return value;
    }
    function signed() { // -2 ^ 2 is -(2 ^ 2)
        if (take("-")) return -signed();
        if (take("+")) return signed();
        const base = atom();
        return take("^") ? base ** signed() : base;
    }
    function atom() {
        if (take("(")) {
            const value = sum(1);
            need(")");
            return value;
        }
        const token = tokens[at++] ?? "", word = token.toLowerCase();
        if (/^[\d.]/.test(token) && token !== ".") return Number(token);
        if (Object.hasOwn(CONSTANTS, word)) return CONSTANTS[word];
        if (!FUNCTIONS.includes(word)) throw new Error(token ? `'${token}' is not understood` : "the expression ends too early");
        need("(");
        const value = Math[word](sum(1));
        need(")");
        return value;
    }

    const value = sum(1);
    if (at < tokens.length) throw new Error(`'${tokens[at]}' is not understood`);
    if (!Number.isFinite(value)) throw new Error("that has no value");
    return Number(value.toPrecision(15)); // 0.1 + 0.2 is 0.3 here
}
