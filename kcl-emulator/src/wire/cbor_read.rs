//! A serde deserializer from CBOR. Hostile input ends in an error: depth is limited, declared
//! lengths allocate nothing, every item costs at least one byte of input.

use minicbor::Decoder;
use minicbor::data::Type;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::cbor::{CborError, MAX_DEPTH};

pub(super) struct Reader<'de> {
    decoder: Decoder<'de>,
    depth: usize,
}

impl<'de> Reader<'de> {
    pub(super) fn new(input: &'de [u8]) -> Self {
        Self {
            decoder: Decoder::new(input),
            depth: 0,
        }
    }

    /// Checks that nothing follows the value.
    pub(super) fn finish(&self) -> Result<(), CborError> {
        if self.decoder.position() < self.decoder.input().len() {
            return Err(CborError::custom("bytes follow the CBOR value"));
        }
        Ok(())
    }

    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CborError>,
    ) -> Result<T, CborError> {
        if self.depth >= MAX_DEPTH {
            return Err(CborError::custom("CBOR value is nested too deep"));
        }
        self.depth += 1;
        let outcome = read(self);
        self.depth -= 1;
        outcome
    }

    fn bytes(&mut self) -> Result<Vec<u8>, CborError> {
        let mut bytes = Vec::new();
        for chunk in self.decoder.bytes_iter()? {
            bytes.extend_from_slice(chunk?);
        }
        Ok(bytes)
    }

    fn string(&mut self) -> Result<String, CborError> {
        let mut string = String::new();
        for chunk in self.decoder.str_iter()? {
            string.push_str(chunk?);
        }
        Ok(string)
    }

    fn sequence<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, CborError> {
        let length = self.decoder.array()?;
        self.nested(|reader| {
            let mut items = Items::new(reader, length);
            let value = visitor.visit_seq(&mut items)?;
            items.finish()?;
            Ok(value)
        })
    }

    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, CborError> {
        let length = self.decoder.map()?;
        self.nested(|reader| {
            let mut items = Items::new(reader, length);
            let value = visitor.visit_map(&mut items)?;
            items.finish()?;
            Ok(value)
        })
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = CborError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        match self.decoder.datatype()? {
            Type::Bool => visitor.visit_bool(self.decoder.bool()?),
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => visitor.visit_u64(self.decoder.u64()?),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => {
                visitor.visit_i64(self.decoder.i64()?)
            }
            Type::F32 => visitor.visit_f64(self.decoder.f32()?.into()),
            Type::F64 => visitor.visit_f64(self.decoder.f64()?),
            Type::Bytes => visitor.visit_borrowed_bytes(self.decoder.bytes()?),
            Type::BytesIndef => visitor.visit_byte_buf(self.bytes()?),
            Type::String => visitor.visit_borrowed_str(self.decoder.str()?),
            Type::StringIndef => visitor.visit_string(self.string()?),
            Type::Array | Type::ArrayIndef => self.sequence(visitor),
            Type::Map | Type::MapIndef => self.map(visitor),
            Type::Null => {
                self.decoder.null()?;
                visitor.visit_unit()
            }
            Type::Undefined => {
                self.decoder.undefined()?;
                visitor.visit_unit()
            }
            Type::Tag => {
                self.decoder.tag()?;
                self.nested(|reader| reader.deserialize_any(visitor))
            }
            other => Err(CborError::custom(format_args!(
                "unsupported CBOR item: {other}"
            ))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        match self.decoder.datatype()? {
            Type::Null => {
                self.decoder.null()?;
                visitor.visit_none()
            }
            Type::Undefined => {
                self.decoder.undefined()?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, CborError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CborError> {
        let name = self.string()?;
        let name: StrDeserializer<'_, CborError> = name.as_str().into_deserializer();
        visitor.visit_enum(UnitVariant(name))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        self.decoder.skip()?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier
    }
}

/// A variant that is named by a string and has no content: the only kind that the API has.
struct UnitVariant<'a>(StrDeserializer<'a, CborError>);

impl<'de> EnumAccess<'de> for UnitVariant<'_> {
    type Error = CborError;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), CborError> {
        Ok((seed.deserialize(self.0)?, self))
    }
}

impl<'de> VariantAccess<'de> for UnitVariant<'_> {
    type Error = CborError;

    fn unit_variant(self) -> Result<(), CborError> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, CborError> {
        Err(CborError::custom("unexpected variant with content"))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, CborError> {
        Err(CborError::custom("unexpected variant with content"))
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, CborError> {
        Err(CborError::custom("unexpected variant with content"))
    }
}

/// The rest of an array or map, of known length or up to a break.
struct Items<'r, 'de> {
    reader: &'r mut Reader<'de>,
    left: Option<u64>,
    ended: bool,
}

impl<'r, 'de> Items<'r, 'de> {
    fn new(reader: &'r mut Reader<'de>, left: Option<u64>) -> Self {
        Self {
            reader,
            left,
            ended: false,
        }
    }

    /// Whether an item follows; takes it off the count, or the break off the input.
    fn advance(&mut self) -> Result<bool, CborError> {
        if self.ended {
            return Ok(false);
        }
        match &mut self.left {
            Some(0) => self.ended = true,
            Some(left) => *left -= 1,
            None => {
                if self.reader.decoder.datatype()? == Type::Break {
                    let next = self.reader.decoder.position() + 1;
                    self.reader.decoder.set_position(next);
                    self.ended = true;
                }
            }
        }
        Ok(!self.ended)
    }

    fn finish(&mut self) -> Result<(), CborError> {
        if self.advance()? {
            return Err(CborError::custom("CBOR array or map has too many items"));
        }
        Ok(())
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = CborError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, CborError> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = CborError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, CborError> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, CborError> {
        seed.deserialize(&mut *self.reader)
    }
}
