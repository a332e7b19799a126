//! The SDK's traits have a method for every kind of value; Kinesis uses few of them.

/// Methods of a `ShapeDeserializer` that refuse.
macro_rules! never_read {
    ($($method:ident -> $value:ty),* $(,)?) => {$(
        fn $method(&mut self, _: &Schema<'_>) -> Result<$value, SerdeError> {
            Err(SerdeError::unsupported(concat!("unexpected ", stringify!($method))))
        }
    )*};
}

/// Methods of a `ShapeSerializer` that refuse.
macro_rules! never_written {
    ($($method:ident: $value:ty),* $(,)?) => {$(
        fn $method(&mut self, _: &Schema<'_>, _: $value) -> Result<(), SerdeError> {
            Err(SerdeError::unsupported(concat!("unexpected ", stringify!($method))))
        }
    )*};
}

pub(super) use {never_read, never_written};
