/* What the browser keeps: settings and conversations in localStorage, and nowhere else. Each
 * conversation has an entry of its own; when all of them together grow beyond MAX_CHARS the least
 * recently used go. A browser that keeps nothing (private windows, full disks) is no error. */

const SETTINGS = "oriel.settings", CHAT = "oriel.chat.";
const MAX_CHARS = 4_000_000; // browsers give about five million

export const DEFAULTS = {
    model: "",
    system: "",
    temperature: "", // "": the server's own
    maxTokens: "",
    effort: "",
    cut: true, // a conversation that is too long loses its oldest turns
    useTools: false,
    tools: ["current_time", "calculate", "roll_dice"],
};

const read = key => {
    try {
        return JSON.parse(localStorage.getItem(key));
    } catch {
        return null;
    }
};

export const loadSettings = () => ({ ...DEFAULTS, ...read(SETTINGS) });
export const saveSettings = settings => write(SETTINGS, JSON.stringify(settings));

const chatKeys = () => Object.keys(localStorage).filter(key => key.startsWith(CHAT));

/* All conversations, the latest first: {id, title, updated, messages}. */
export const loadChats = () =>
    chatKeys().map(read).filter(c => c?.id && Array.isArray(c.messages)).sort((a, b) => b.updated - a.updated);

export const newChat = () => ({ id: crypto.randomUUID?.() ?? String(Math.random()).slice(2), title: "", updated: Date.now(), messages: [] });

export function saveChat(chat) {
    chat.updated = Date.now();
    const text = JSON.stringify(chat);
    makeRoom(text.length, CHAT + chat.id);
    write(CHAT + chat.id, text);
}

export const deleteChat = id => localStorage.removeItem(CHAT + id);
export const deleteAllChats = () => chatKeys().forEach(key => localStorage.removeItem(key));

function write(key, text) {
    for (;;) {
        try {
            localStorage.setItem(key, text);
            return;
        } catch { // full: the oldest other conversation goes
            if (!dropOldest(key)) return;
        }
    }
}

function makeRoom(n, own) {
    const size = () => chatKeys().filter(k => k !== own).reduce((sum, k) => sum + localStorage.getItem(k).length, n);
    while (size() > MAX_CHARS && dropOldest(own)) continue;
}

function dropOldest(own) {
    const others = loadChats().filter(c => CHAT + c.id !== own);
    if (!others.length) return false;
    deleteChat(others.at(-1).id);
    return true;
}
