//! JSON into a [`Value`]: what serde_json accepts, to the same values; and half a surrogate pair, as U+FFFD. Its own parser is generic over readers and visitors
//! and explains each error by line and column: five times the code for what the router needs of it.

use super::{Map, Number, Value};

/// Arrays and objects within each other; serde_json's limit.
const DEEPEST: u32 = 127;

/// Why a text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// It may be the beginning of JSON: it ends too early.
    pub cut: bool,
}

/// The whole text, white space around it aside.
pub fn parse(text: &str) -> Result<Value, Malformed> {
    let mut parser = Parser { text: text.as_bytes(), at: 0 };
    let value = parser.value(DEEPEST).filter(|_| parser.peek().is_none());
    value.ok_or(Malformed { cut: parser.at >= parser.text.len() })
}

/// None is an error at `at`.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Whether `byte` is next; then it is passed.
    fn skip(&mut self, byte: u8) -> bool {
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// What follows the white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// `deepest`: how many levels may follow.
    fn value(&mut self, deepest: u32) -> Option<Value> {
        match self.peek()? {
            b'"' => self.string().map(Value::String),
            open @ (b'[' | b'{') if deepest > 0 => {
                self.at += 1;
                if open == b'[' { self.array(deepest - 1) } else { self.object(deepest - 1) }
            }
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            b'-' | b'0'..=b'9' => self.number().map(Value::Number),
            _ => None,
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        word.bytes().all(|byte| self.skip(byte)).then_some(value)
    }

    fn array(&mut self, deepest: u32) -> Option<Value> {
        let mut items = Vec::new();
        while self.another(items.is_empty(), b']')? {
            items.push(self.value(deepest)?);
        }
        Some(Value::Array(items))
    }

    fn object(&mut self, deepest: u32) -> Option<Value> {
        let mut entries = Vec::new();
        while self.another(entries.is_empty(), b'}')? {
            self.peek()?;
            let key = self.string()?;
            self.peek()?;
            if !self.skip(b':') {
                return None;
            }
            let value = self.value(deepest)?;
            entries.push((key, value));
        }
        Some(Value::Object(Map(entries)))
    }

    /// Whether another item follows, its comma passed, or the end of the array or object.
    fn another(&mut self, first: bool, end: u8) -> Option<bool> {
        self.peek()?;
        if self.skip(end) {
            return Some(false);
        }
        (first || self.skip(b',')).then_some(true)
    }

    fn string(&mut self) -> Option<String> {
        if !self.skip(b'"') {
            return None;
        }
        let mut bytes = Vec::new();
        loop {
            match self.next()? {
                b'"' => return String::from_utf8(bytes).ok(),
                b'\\' => {
                    let c = self.escaped()?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..b' ' => {
                    self.at -= 1;
                    return None;
                }
                byte => bytes.push(byte),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.next()? {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'u' => {
                let code = self.hex()?;
                // A character beyond 16 bits is two escapes, a high and a low half.
                let behind = self.at;
                if (0xd800..0xdc00).contains(&code) && self.skip(b'\\') && self.skip(b'u') {
                    let low = self.hex()?;
                    if (0xdc00..0xe000).contains(&low) {
                        return char::from_u32(0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00));
                    }
                }
                self.at = behind;
                // Half a character, as JavaScript cuts them.
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |code, _| Some(code * 16 + char::from(self.next()?).to_digit(16)?))
    }

    /// A whole number where it is written as one and 64 bits hold it.
    fn number(&mut self) -> Option<Number> {
        let negative = self.skip(b'-');
        let mut digits = Digits { significand: 0, exponent: 0 };
        let whole_digits = self.digits(|digit| digits.push(digit, 0), true)?;
        let mut is_whole = whole_digits && digits.exponent == 0;
        if self.skip(b'.') {
            is_whole = false;
            self.digits(|digit| digits.push(digit, -1), false)?;
        }
        if self.skip(b'e') || self.skip(b'E') {
            is_whole = false;
            let below = !self.skip(b'+') && self.skip(b'-');
            let mut exponent = 0i32;
            self.digits(|digit| exponent = (exponent * 10 + i32::from(digit)).min(FAR), false)?;
            digits.exponent += if below { -exponent } else { exponent };
        }
        match digits.significand {
            n if is_whole && !negative => Some(Number::Whole(n)),
            // -0 is not whole.
            n @ 1..=0x8000_0000_0000_0000 if is_whole => Some(Number::Negative((n as i64).wrapping_neg())),
            _ => {
                let value = digits.value();
                Some(Number::Real(if negative { -value } else { value })).filter(|_| value.is_finite())
            }
        }
    }

    /// At least one digit. `whole`: nothing may follow a leading 0.
    fn digits(&mut self, mut push: impl FnMut(u8), whole: bool) -> Option<bool> {
        let start = self.at;
        while let Some(byte @ b'0'..=b'9') = self.text.get(self.at) {
            if whole && self.at == start + 1 && self.text[start] == b'0' {
                return None;
            }
            push(byte - b'0');
            self.at += 1;
        }
        (self.at > start).then_some(true)
    }
}

/// Exponents beyond are 0 or no number.
const FAR: i32 = 100_000;

/// significand x 10^exponent.
struct Digits {
    significand: u64,
    exponent: i32,
}

impl Digits {
    /// `shift`: of the exponent, -1 behind the point. Digits that do not fit are dropped.
    fn push(&mut self, digit: u8, shift: i32) {
        let fits = self.significand < u64::MAX / 10 || self.significand == u64::MAX / 10 && digit <= 5;
        if fits {
            self.significand = self.significand * 10 + u64::from(digit);
        }
        self.exponent = self.exponent.saturating_add(if fits { shift } else { shift + 1 });
    }

    /// The nearest number for up to 15 digits and exponents up to 22; beyond, some units of the last place away at most.
    fn value(&self) -> f64 {
        let (mut value, mut exponent) = (self.significand as f64, self.exponent.clamp(-FAR, FAR));
        while exponent < -308 && value > 0.0 {
            value /= 1e308;
            exponent += 308;
        }
        match value {
            0.0 => 0.0,
            _ if exponent < 0 => value / 10f64.powi(-exponent),
            _ => value * 10f64.powi(exponent.min(309)),
        }
    }
}
