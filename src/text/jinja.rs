//! Jinja as Hugging Face's `transformers` sets it up for chat templates: Python's methods, `raise_exception`,
//! `strftime_now`, its own `tojson`, `break` and `continue`, and the `generation` tag, which only marks a span.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

/// What one rendering may cost: about as many instructions, or 64 times as many bytes. A conversation of 100,000
/// words costs some 20,000.
const FUEL: u64 = 2_000_000;
/// Nested calls; each takes a few kB of a stack that is 1 MB in the browser.
const RECURSION: usize = 120;

pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    // Only fails for delimiters, which stay as they are.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        env.set_syntax(syntax);
    }
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION);
    env.set_unknown_method_callback(|state, value, method, args| match (method, value.as_str()) {
        ("title", Some(s)) if args.is_empty() => Ok(Value::from(python_title(s))),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    });
    env.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Number if !value.is_integer() => Ok(out.write_str(&python_float(f64::try_from(value.clone())?))?),
        _ => minijinja::escape_formatter(out, state, value),
    });
    env.add_filter("tojson", to_json);
    // In minijinja none is as well.
    env.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    env
}

/// `{% generation %}...{% endgeneration %}` as a block that does nothing, the dashes kept.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let Some(end) = rest[at..].find("%}").map(|n| at + n) else { break };
        let tag = rest[at + 2..end].trim_matches(['-', '+']).trim();
        let replacement = match tag {
            "generation" => "if true",
            "endgeneration" => "endif",
            other => other,
        };
        out.push_str(&rest[..at]);
        match replacement == tag {
            true => out.push_str(&rest[at..end]),
            false => out.push_str(&rest[at..end].replacen(tag, replacement, 1)),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// JSON to a template's value, keys in order.
pub(super) fn value_of(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::from(n),
            (_, Some(n)) => Value::from(n),
            _ => Value::from(n.as_f64()),
        },
        Json::String(s) => Value::from(s.as_str()),
        Json::Array(items) => items.iter().map(value_of).collect(),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(k, v)| (k.as_str(), value_of(v)))),
    }
}

/// JSON as templates write it.
#[cold]
pub(super) fn dump(json: &serde_json::Value) -> String {
    let mut out = String::new();
    let writer = JsonWriter { indent: None, item: ", ".into(), key: ": ".into(), ascii: false, sort: false };
    // Only fails for what is no JSON, or deeper than requests are read.
    let _ = writer.write(&value_of(json), 0, &mut out);
    out
}

/// Python's `json.dumps` with `ensure_ascii=False`, as `transformers` has it.
fn to_json(value: &Value, args: Kwargs) -> Result<String, Error> {
    let indent = match args.get::<Option<Value>>("indent")? {
        Some(v) if v.kind() == ValueKind::Number => Some(" ".repeat(v.as_usize().unwrap_or(0).min(16))),
        Some(v) => v.as_str().map(str::to_string),
        None => None,
    };
    let (item, key) = match args.get::<Option<Vec<String>>>("separators")?.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        _ => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    let ascii = args.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort = args.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    args.assert_all_used()?;
    let mut out = String::new();
    JsonWriter { indent, item, key, ascii, sort }.write(value, 0, &mut out)?;
    Ok(out)
}

struct JsonWriter {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort: bool,
}

impl JsonWriter {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        let fail = |what| Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}")));
        if depth > RECURSION {
            return fail("nested too deeply");
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&python_float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                out.push('[');
                let mut empty = true;
                for item in value.try_iter()? {
                    self.separate(empty, depth + 1, out);
                    self.write(&item, depth + 1, out)?;
                    empty = false;
                }
                self.close(empty, depth, ']', out);
            }
            ValueKind::Map => {
                out.push('{');
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                for (i, key) in keys.iter().enumerate() {
                    self.separate(i == 0, depth + 1, out);
                    match key.as_str() {
                        Some(key) => self.string(key, out),
                        None => {
                            out.push('"');
                            self.write(key, depth + 1, out)?;
                            out.push('"');
                        }
                    }
                    out.push_str(&self.key);
                    self.write(&value.get_item(key)?, depth + 1, out)?;
                }
                self.close(keys.is_empty(), depth, '}', out);
            }
            ValueKind::Undefined => return fail("an undefined value"),
            _ => return fail("not a value of JSON"),
        }
        Ok(())
    }

    fn separate(&self, first: bool, depth: usize, out: &mut String) {
        if !first {
            out.push_str(&self.item);
        }
        self.newline(depth, out);
    }

    fn close(&self, empty: bool, depth: usize, bracket: char, out: &mut String) {
        if !empty {
            self.newline(depth, out);
        }
        out.push(bracket);
    }

    fn newline(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn string(&self, s: &str, out: &mut String) {
        out.push('"');
        for c in s.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || self.ascii && c >= '\u{7f}' => {
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")))
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// `str.title`: a letter after none is upper, a letter after one lower case.
fn python_title(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut inside = false;
    for c in s.chars() {
        match inside {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    out
}

/// `repr` of a float: as few digits as needed, in exponents below 1e-4 and from 1e16 on.
fn python_float(f: f64) -> String {
    if !f.is_finite() {
        return if f.is_nan() {
            "NaN"
        } else if f > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_string();
    }
    if f == 0.0 || (1e-4..1e16).contains(&f.abs()) {
        return format!("{f:?}");
    }
    let text = format!("{f:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Python's `strftime` of a time in seconds since 1970, for the fields that templates use.
pub(super) fn strftime(seconds: i64, format: &str) -> String {
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let (day, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let (year, month, date) = civil(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let weekday = DAYS[day.rem_euclid(7) as usize];
    let name = MONTHS[month as usize - 1];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        let field = if c == '%' { chars.next() } else { None };
        match field {
            Some('Y') => out += &year.to_string(),
            Some('y') => out += &format!("{:02}", year.rem_euclid(100)),
            Some('m') => out += &format!("{month:02}"),
            Some('d') => out += &format!("{date:02}"),
            Some('B') => out += name,
            Some('b') => out += &name[..3],
            Some('A') => out += weekday,
            Some('a') => out += &weekday[..3],
            Some('H') => out += &format!("{hour:02}"),
            Some('I') => out += &format!("{:02}", (hour + 11) % 12 + 1),
            Some('p') => out += if hour < 12 { "AM" } else { "PM" },
            Some('M') => out += &format!("{minute:02}"),
            Some('S') => out += &format!("{second:02}"),
            Some('j') => out += &format!("{:03}", day - days_before(year) + 1),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push(c),
        }
    }
    out
}

/// Year, month and date of a day since 1970-01-01 in the Gregorian calendar.
fn civil(day: i64) -> (i64, i64, i64) {
    // Years from March on, so that the leap day is the last; 146,097 days are 400 years.
    let day = day + 719_468;
    let (era, in_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let date = in_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + (month <= 2) as i64, month, date)
}

/// Days from 1970-01-01 to the first of January.
fn days_before(year: i64) -> i64 {
    let y = year - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_162
}
