// What a PAC file may call, and `start`, which is the value of this text: it takes the function
// that calls FindProxyForURL, and returns the one that the sandbox calls.
(function () {
    "use strict";
    const global = globalThis;
    const MAX_NAMES = 32; // that one evaluation may ask for
    const MAX_ANSWER = 8192; // characters
    const MAX_KEPT = 20000; // compiled patterns, and numbers of addresses
    const stop = { toString: () => "a name that is not resolved yet" };
    const known = new Map(); // name: its addresses, joined by ";"; the own addresses are under ""
    let asked = new Set(), unknown = new Set();

    function addressesOf(name) {
        name = String(name);
        asked.add(name);
        const found = asked.size > MAX_NAMES ? undefined : known.get(name);
        if (found === undefined) {
            if (unknown.size < MAX_NAMES) {
                unknown.add(name);
            }
            throw stop; // the names are resolved outside, then all is evaluated again
        }
        return found;
    }

    // Names ------------------------------------------------------------------------------------

    global.isPlainHostName = host => !/[.:]/.test(host);
    global.dnsDomainIs = (host, domain) => String(host).endsWith(domain);
    global.dnsDomainLevels = host => String(host).split(".").length - 1;
    global.localHostOrDomainIs = (host, full) =>
        host === full || String(full).startsWith(host + ".");

    // Most patterns need no regular expression, and a file of 2,000 of them has to be fast.
    const patterns = new Map();

    function compiled(pattern) {
        const inner = pattern.slice(1, -1);
        if (!/[*?()|[\]{}+^$\\]/.test(pattern)) {
            return text => text === pattern;
        }
        if (/^\*[^*?()|[\]{}+^$\\]*$/.test(pattern)) {
            const tail = pattern.slice(1);
            return text => text.endsWith(tail);
        }
        if (/^[^*?()|[\]{}+^$\\]*\*$/.test(pattern)) {
            const head = pattern.slice(0, -1);
            return text => text.startsWith(head);
        }
        if (/^\*[^*?()|[\]{}+^$\\]*\*$/.test(pattern)) {
            return text => text.includes(inner);
        }
        // As browsers do it: what else means something to regular expressions, such as (a|b),
        // means the same here.
        const regular = pattern.replace(/\./g, "\\.").replace(/\*+/g, ".*").replace(/\?/g, ".");
        const expression = new RegExp("^" + regular + "$");
        return text => expression.test(text);
    }

    global.shExpMatch = function (text, pattern) {
        let matches = patterns.get(pattern);
        if (matches === undefined) {
            if (patterns.size >= MAX_KEPT) {
                patterns.clear();
            }
            matches = compiled(String(pattern));
            patterns.set(pattern, matches);
        }
        return matches(typeof text === "string" ? text : String(text));
    };

    // Addresses --------------------------------------------------------------------------------

    const numbers = new Map(); // many files compare one address with hundreds of networks

    function ipv4(text) { // its number; -1 for what is none
        let number = numbers.get(text);
        if (number === undefined) {
            if (numbers.size >= MAX_KEPT) {
                numbers.clear();
            }
            number = parsed4(text);
            numbers.set(text, number);
        }
        return number;
    }

    function parsed4(text) {
        const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
        if (match === null) {
            return -1;
        }
        let number = 0;
        for (let i = 1; i <= 4; i++) {
            if (match[i] > 255) {
                return -1;
            }
            number = number * 256 + +match[i];
        }
        return number;
    }

    function ipv6(text) { // its eight numbers; null for what is none
        const halves = text.replace(/%.*$/, "").split("::");
        const parts = half => (half ? half.split(":") : []);
        const head = parts(halves[0]), tail = halves.length > 1 ? parts(halves[1]) : [];
        const last = tail.length ? tail : head;
        const v4 = last.length ? ipv4(last[last.length - 1]) : -1;
        if (v4 >= 0) {
            last.splice(-1, 1, (v4 >>> 16).toString(16), (v4 & 0xffff).toString(16));
        }
        const gap = 8 - head.length - tail.length;
        const all = [...head, ...Array(Math.max(gap, 0)).fill("0"), ...tail];
        const fits = halves.length === 2 ? gap > 0 : halves.length === 1;
        const isIt = fits && all.length === 8 && all.every(part => /^[0-9a-f]{1,4}$/i.test(part));
        return isIt ? all.map(part => parseInt(part, 16)) : null;
    }

    function first4(addresses) {
        return addresses.split(";").find(address => ipv4(address) >= 0);
    }

    function resolved(host) { // an IPv4 address as text; undefined for what has none
        return ipv4(host) >= 0 ? host : first4(addressesOf(host));
    }

    global.isResolvable = host => resolved(host) !== undefined;
    global.dnsResolve = host => resolved(host) ?? null;
    global.myIpAddress = () => first4(addressesOf("")) ?? "127.0.0.1";
    global.isInNet = function (host, network, mask) {
        const bits = ipv4(mask), base = ipv4(network);
        if (bits < 0 || base < 0) {
            return false;
        }
        const address = resolved(host);
        return address !== undefined && ((ipv4(address) ^ base) & bits) === 0;
    };

    const isLiteral = host => ipv4(host) >= 0 || ipv6(String(host)) !== null;
    global.isResolvableEx = host => isLiteral(host) || addressesOf(host) !== "";
    global.dnsResolveEx = host => (isLiteral(host) ? host : addressesOf(host));
    global.myIpAddressEx = () => addressesOf("");
    global.sortIpAddressList = list => String(list).split(";").map(each => each.trim())
        .sort((a, b) => (ipv4(a) >= 0) - (ipv4(b) >= 0)).join(";"); // IPv6 comes first
    global.getClientVersion = () => "1.0";
    global.isInNetEx = function (address, prefix) {
        const [network, length] = String(prefix).split("/");
        const numbers = text => {
            const v4 = ipv4(text);
            return v4 >= 0 ? [v4 >>> 16, v4 & 0xffff] : ipv6(String(text));
        };
        const here = numbers(address), there = numbers(network);
        if (here === null || there === null || here.length !== there.length
            || !/^\d{1,3}$/.test(length) || length > here.length * 16) {
            return false;
        }
        return here.every((number, i) => {
            const bits = Math.min(Math.max(length - 16 * i, 0), 16);
            return ((number ^ there[i]) & (0xffff << (16 - bits))) === 0;
        });
    };

    // Times ------------------------------------------------------------------------------------

    const DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    const MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV",
        "DEC"];

    function zoned(args) { // what stands before a last "GMT", and the present time in that zone
        const isGmt = args.length > 0 && args[args.length - 1] === "GMT";
        const now = new Date(), utc = isGmt ? "UTC" : "";
        const get = what => now["get" + utc + what]();
        return [isGmt ? args.slice(0, -1) : args, get];
    }

    function compare(a, b) {
        const i = a.findIndex((part, i) => part !== b[i]);
        return i < 0 ? 0 : a[i] - b[i];
    }

    function within(low, now, high) { // from low to high, which may be in the next week or year
        const after = compare(now, low) >= 0, before = compare(now, high) <= 0;
        return compare(low, high) <= 0 ? after && before : after || before;
    }

    global.weekdayRange = function (...args) {
        const [days, get] = zoned(args);
        const [from, to = from] = days.map(day => DAYS.indexOf(day));
        return from >= 0 && to >= 0 && within([from], [get("Day")], [to]);
    };

    global.dateRange = function (...args) {
        const [parts, get] = zoned(args);
        const ofPart = part => {
            const month = MONTHS.indexOf(part);
            return month >= 0 ? ["Month", month] : [part > 31 ? "FullYear" : "Date", +part];
        };
        const given = parts.map(ofPart), half = given.length / 2;
        const low = given.slice(0, half), high = given.slice(half);
        if (!given.length || given.some(([, number]) => Number.isNaN(number))) {
            return false;
        }
        if (!Number.isInteger(half) || low.some(([kind], i) => kind !== high[i][0])) {
            return given.every(([kind, number]) => get(kind) === number);
        }
        const order = ["FullYear", "Month", "Date"];
        const sorted = date => order.flatMap(kind => date.filter(each => each[0] === kind));
        const numbers = date => sorted(date).map(each => each[1]);
        return within(numbers(low), sorted(low).map(each => get(each[0])), numbers(high));
    };

    global.timeRange = function (...args) {
        const [parts, get] = zoned(args);
        const given = parts.map(Number);
        if (!given.length || given.some(Number.isNaN)) {
            return false;
        }
        const now = [get("Hours"), get("Minutes"), get("Seconds")];
        if (given.length === 1) {
            return given[0] === now[0];
        }
        const half = given.length / 2;
        return within(given.slice(0, half), now.slice(0, half), given.slice(half));
    };

    global.alert = () => {}; // files from the wild call it

    // The sandbox ------------------------------------------------------------------------------

    // The value is text: "=" and the answer; "?" and a list of names that must be resolved; "#"
    // and the type of an answer that is no text; "!" for too many names; or "+" for too long a text.
    return call => (url, host, learned) => {
        if (learned !== "") {
            known.clear();
            for (const [name, addresses] of JSON.parse(learned)) {
                known.set(name, addresses);
            }
        }
        asked.clear();
        unknown.clear();
        let answer;
        try {
            answer = call(url, host);
        } catch (e) {
            if (unknown.size === 0) {
                throw e;
            }
        }
        if (asked.size > MAX_NAMES) {
            return "!";
        }
        if (unknown.size > 0) { // also where the file has caught what was thrown
            return "?" + JSON.stringify([...unknown]);
        }
        if (typeof answer !== "string") {
            return "#" + (answer === null ? "null" : typeof answer);
        }
        // What + makes of long text is not passed out of the engine, and what join makes is.
        return answer.length > MAX_ANSWER ? "+" : ["=", answer].join("");
    };
})()
