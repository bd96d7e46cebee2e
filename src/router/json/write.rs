//! What is [`Serialize`] as JSON, as serde_json writes it. Writing into memory cannot fail, so nothing here
//! checks whether it did; serde_json's writer checks after each part of each field.

use super::digits::shortest;
use serde::ser::{self, Serialize, Serializer};
use std::fmt::Display;

pub fn to_text<T: Serialize + ?Sized>(value: &T) -> String {
    let mut writer = Writer { out: Vec::new() };
    let Ok(()) = value.serialize(&mut writer);
    String::from_utf8(writer.out).unwrap_or_default()
}

struct Writer {
    out: Vec<u8>,
}

/// There is none.
#[derive(Debug)]
enum Never {}

impl Display for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter) -> std::fmt::Result {
        match *self {}
    }
}

impl std::error::Error for Never {}

impl ser::Error for Never {
    fn custom<T: Display>(_: T) -> Self {
        unreachable!("no Serialize in the router refuses a value")
    }
}

type Done = Result<(), Never>;
type Impossible = ser::Impossible<(), Never>;

/// What JSON has no form of its own for.
const UNTAGGED: &str = "enums with data are tagged in the router";

impl Writer {
    fn put(&mut self, text: &str) -> Done {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push(b'"');
        for byte in text.bytes() {
            let short = match byte {
                b'"' | b'\\' => byte,
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x8 => b'b',
                0xc => b'f',
                0..b' ' => {
                    self.out.extend_from_slice(b"\\u00");
                    self.out.extend([byte >> 4, byte & 15].map(|half| b"0123456789abcdef"[usize::from(half)]));
                    continue;
                }
                _ => {
                    self.out.push(byte);
                    continue;
                }
            };
            self.out.extend([b'\\', short]);
        }
        self.out.push(b'"');
    }

    fn whole(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    /// A comma, unless an array or object has just begun.
    fn separate(&mut self) {
        if !matches!(self.out.last(), Some(b'[' | b'{')) {
            self.out.push(b',');
        }
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.string(key);
        self.out.push(b':');
    }

    fn open(&mut self, bracket: u8) -> Result<&mut Self, Never> {
        self.out.push(bracket);
        Ok(self)
    }

    fn close(&mut self, bracket: u8) -> Done {
        self.out.push(bracket);
        Ok(())
    }
}

macro_rules! forward {
    ($($name:ident($type:ty) => $to:ident as $wide:ty;)*) => {
        $(fn $name(self, number: $type) -> Done { self.$to(number as $wide) })*
    };
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Never;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Impossible;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Variant<'a>;

    forward! {
        serialize_i8(i8) => serialize_i64 as i64;
        serialize_i16(i16) => serialize_i64 as i64;
        serialize_i32(i32) => serialize_i64 as i64;
        serialize_u8(u8) => serialize_u64 as u64;
        serialize_u16(u16) => serialize_u64 as u64;
        serialize_u32(u32) => serialize_u64 as u64;
        serialize_f32(f32) => serialize_f64 as f64;
    }

    fn serialize_bool(self, value: bool) -> Done {
        self.put(if value { "true" } else { "false" })
    }

    fn serialize_i64(self, number: i64) -> Done {
        if number < 0 {
            self.out.push(b'-');
        }
        self.serialize_u64(number.unsigned_abs())
    }

    fn serialize_u64(self, number: u64) -> Done {
        self.whole(number);
        Ok(())
    }

    /// JSON has no NaN and no infinity.
    fn serialize_f64(self, number: f64) -> Done {
        if number.is_finite() { self.put(&shortest(number)) } else { self.serialize_unit() }
    }

    fn serialize_char(self, c: char) -> Done {
        self.serialize_str(c.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Done {
        self.string(text);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Done {
        bytes.serialize(self)
    }

    fn serialize_none(self) -> Done {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        self.put("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Done {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Done {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: &'static str, _: u32, _: &'static str, _: &T) -> Done {
        unreachable!("{UNTAGGED}")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Never> {
        self.open(b'[')
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Never> {
        self.open(b'[')
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Never> {
        self.open(b'[')
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Impossible, Never> {
        unreachable!("{UNTAGGED}")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Never> {
        self.open(b'{')
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Never> {
        self.open(b'{')
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Variant<'a>, Never> {
        let writer = self.open(b'{')?;
        writer.key(variant);
        writer.open(b'{').map(Variant)
    }
}

/// An object in an object that has nothing but its name.
struct Variant<'a>(&'a mut Writer);

impl ser::SerializeStructVariant for Variant<'_> {
    type Ok = ();
    type Error = Never;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Done {
        self.0.key(key);
        value.serialize(&mut *self.0)
    }

    fn end(self) -> Done {
        self.0.put("}}")
    }
}

macro_rules! compound {
    ($($name:ident, $method:ident, $close:literal, ($($key:ident: $type:ty)?);)*) => {
        $(impl ser::$name for &mut Writer {
            type Ok = ();
            type Error = Never;

            fn $method<T: Serialize + ?Sized>(&mut self, $($key: $type,)? value: &T) -> Done {
                compound!(@before self $($key)?);
                value.serialize(&mut **self)
            }

            fn end(self) -> Done {
                self.close($close)
            }
        })*
    };
    (@before $self:ident) => { $self.separate() };
    (@before $self:ident $key:ident) => { $self.key($key) };
}

compound! {
    SerializeSeq, serialize_element, b']', ();
    SerializeTuple, serialize_element, b']', ();
    SerializeTupleStruct, serialize_field, b']', ();
    SerializeStruct, serialize_field, b'}', (key: &'static str);
}

/// Keys are strings.
impl ser::SerializeMap for &mut Writer {
    type Ok = ();
    type Error = Never;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.separate();
        key.serialize(&mut **self)?;
        self.put(":")
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(&mut **self)
    }

    fn end(self) -> Done {
        self.close(b'}')
    }
}
