//! The protobuf wire format: the fields of a message in order, borrowed from its bytes.

use crate::worker::onnx::error::OnnxError;

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field's number in its message.
    pub number: u32,
    /// The value.
    pub value: Value<'a>,
}

/// The value of a field, by wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer.
    Varint(u64),
    /// Eight bytes: a double or a fixed integer. The messages that we read have none.
    Fixed64,
    /// Text, bytes, a message, or a packed list.
    Bytes(&'a [u8]),
    /// Four bytes: a float.
    Fixed32([u8; 4]),
}

/// Iterates over the fields of a message until its end or the first error.
#[derive(Debug)]
pub struct Fields<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Returns the fields of `bytes`; `message` is the name of the message type, for errors.
    pub fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        Fields { message, rest: bytes }
    }

    fn field(&mut self) -> Result<Field<'a>, OnnxError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|number| (1..=0x1fff_ffff).contains(number))
            .ok_or_else(|| self.malformed("a field number is out of range"))?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(usize::try_from(len).unwrap_or(usize::MAX))?)
            }
            5 => {
                let bytes = self.take(4)?;
                Value::Fixed32([bytes[0], bytes[1], bytes[2], bytes[3]])
            }
            _ => return Err(self.malformed("a wire type is unknown")),
        };
        Ok(Field { number, value })
    }

    fn varint(&mut self) -> Result<u64, OnnxError> {
        let mut value = 0_u64;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            // Only one bit of the tenth byte fits; the rest is cut off, as in other decoders.
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(self.malformed("an integer does not end"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], OnnxError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.malformed("the bytes end inside a field"));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn malformed(&self, why: &'static str) -> OnnxError {
        OnnxError::Malformed { message: self.message, why }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, OnnxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Value<'a> {
    /// Returns the bytes, or an error for another wire type.
    pub fn bytes(self, message: &'static str) -> Result<&'a [u8], OnnxError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed64 | Value::Fixed32(_) => Err(mistyped(message)),
        }
    }

    /// Returns the text, or an error for another wire type.
    pub fn text(self, message: &'static str) -> Result<&'a str, OnnxError> {
        str::from_utf8(self.bytes(message)?)
            .map_err(|_| OnnxError::Malformed { message, why: "a text is not UTF-8" })
    }

    /// Returns the integer, or an error for another wire type.
    pub fn int(self, message: &'static str) -> Result<i64, OnnxError> {
        match self {
            Value::Varint(value) => Ok(value.cast_signed()),
            Value::Bytes(_) | Value::Fixed64 | Value::Fixed32(_) => Err(mistyped(message)),
        }
    }

    /// Adds the integers of a repeated field, packed or not.
    pub fn ints_into(self, message: &'static str, out: &mut Vec<i64>) -> Result<(), OnnxError> {
        let Value::Bytes(packed) = self else {
            out.push(self.int(message)?);
            return Ok(());
        };
        let mut packed = Fields::new(message, packed);
        while !packed.rest.is_empty() {
            out.push(packed.varint()?.cast_signed());
        }
        Ok(())
    }

    /// Adds the floats of a repeated field, packed or not.
    pub fn floats_into(self, message: &'static str, out: &mut Vec<f32>) -> Result<(), OnnxError> {
        match self {
            Value::Fixed32(bytes) => out.push(f32::from_le_bytes(bytes)),
            Value::Bytes(packed) => {
                let (floats, rest) = packed.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(OnnxError::Malformed { message, why: "a float is cut off" });
                }
                out.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            Value::Varint(_) | Value::Fixed64 => return Err(mistyped(message)),
        }
        Ok(())
    }
}

fn mistyped(message: &'static str) -> OnnxError {
    OnnxError::Malformed { message, why: "a field has the wrong wire type" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<Field<'_>>, String> {
        Fields::new("Test", bytes)
            .collect::<Result<_, _>>()
            .map_err(|error: OnnxError| error.to_string())
    }

    #[test]
    fn fields_of_every_wire_type_are_read() {
        let bytes = [
            0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 0, 0, 0x80, 0x3f, 0x21, 0, 0, 0, 0, 0, 0,
            0, 0,
        ];
        let expected = [
            Field { number: 1, value: Value::Varint(150) },
            Field { number: 2, value: Value::Bytes(b"hi") },
            Field { number: 3, value: Value::Fixed32([0, 0, 0x80, 0x3f]) },
            Field { number: 4, value: Value::Fixed64 },
        ];
        assert_eq!(fields(&bytes), Ok(expected.to_vec()));
    }

    #[test]
    fn malformed_messages_are_errors() {
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(fields(bytes), Err(format!("not an ONNX model: Test: {expected}")));
        };
        check(&[0x80; 12], "an integer does not end");
        check(&[0x08], "an integer does not end");
        check(&[0x00, 0x01], "a field number is out of range");
        check(&[0x0b], "a wire type is unknown");
        check(&[0x12, 5, b'h', b'i'], "the bytes end inside a field");
        check(
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            "the bytes end inside a field",
        );
        check(&[0x1d, 0], "the bytes end inside a field");
    }

    #[test]
    fn lists_may_be_packed_or_not() {
        let mut ints = Vec::new();
        Value::Varint(7).ints_into("Test", &mut ints).expect("one integer");
        Value::Bytes(&[1, 0x96, 1]).ints_into("Test", &mut ints).expect("packed integers");
        Value::Varint(u64::MAX).ints_into("Test", &mut ints).expect("a negative integer");
        assert_eq!(ints, [7, 1, 150, -1]);
        let mut floats = Vec::new();
        Value::Fixed32(1.5_f32.to_le_bytes()).floats_into("Test", &mut floats).expect("one float");
        Value::Bytes(&[0, 0, 0, 0x40, 0, 0, 0x80, 0xbf])
            .floats_into("Test", &mut floats)
            .expect("packed floats");
        assert_eq!(
            floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>(),
            [1.5_f32, 2.0, -1.0].map(f32::to_bits)
        );
        assert!(Value::Bytes(&[0, 0, 0]).floats_into("Test", &mut floats).is_err());
    }
}
