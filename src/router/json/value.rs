//! JSON in memory. Objects are lists: those of the router are small, and maps that hash or sort take 5 kB of wasm.

use serde::ser::{Serialize, SerializeMap, Serializer};
use std::ops::Index;

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Value>),
    Object(Map),
}

/// As it is written: what has neither point nor exponent is whole, if 64 bits hold it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Whole(u64),
    /// Below 0.
    Negative(i64),
    /// Finite.
    Real(f64),
}

/// Keys in their order. One that stands there twice has its last value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub Vec<(String, Value)>);

static NULL: Value = Value::Null;

impl Value {
    pub fn object(fields: &[(&str, Value)]) -> Self {
        Map(fields.iter().map(|(key, value)| (key.to_string(), value.clone())).collect()).into()
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(value) = self { Some(*value) } else { None }
    }

    pub fn as_u64(&self) -> Option<u64> {
        if let Value::Number(Number::Whole(number)) = self { Some(*number) } else { None }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::Number(Number::Whole(number)) => Some(number as f64),
            Value::Number(Number::Negative(number)) => Some(number as f64),
            Value::Number(Number::Real(number)) => Some(number),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }

    /// Empty for what is no array.
    pub fn items(&self) -> &[Value] {
        if let Value::Array(items) = self { items } else { &[] }
    }

    pub fn as_array(&self) -> Option<&Vec<Value>> {
        if let Value::Array(items) = self { Some(items) } else { None }
    }

    pub fn as_object(&self) -> Option<&Map> {
        if let Value::Object(map) = self { Some(map) } else { None }
    }
}

impl Map {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value)
    }
}

/// Null for what is missing, as for what is no object.
impl Index<&str> for Value {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NULL)
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, text: &str) -> bool {
        self.as_str() == Some(text)
    }
}

impl PartialEq<&str> for Value {
    fn eq(&self, text: &&str) -> bool {
        *self == **text
    }
}

macro_rules! from {
    ($($type:ty: $of:ident => $value:expr;)*) => {
        $(impl From<$type> for Value {
            fn from($of: $type) -> Self {
                $value
            }
        })*
    };
}

from! {
    bool: value => Value::Bool(value);
    u32: number => Value::Number(Number::Whole(number.into()));
    u64: number => Value::Number(Number::Whole(number));
    &str: text => Value::String(text.to_string());
    String: text => Value::String(text);
    Vec<Value>: items => Value::Array(items);
    Map: map => Value::Object(map);
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Number::Whole(number) => serializer.serialize_u64(number),
            Number::Negative(number) => serializer.serialize_i64(number),
            Number::Real(number) => serializer.serialize_f64(number),
        }
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Number(number) => number.serialize(serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => items.serialize(serializer),
            Value::Object(map) => map.serialize(serializer),
        }
    }
}
