//! The only way to the log. Every line of this crate passes through [`Line`]:
//! ids, queue names, errors and all other text from outside are escaped by construction.
//!
//! The macros take what those of `tracing` take, except that text as a field needs `%` or
//! `?`; numbers and truth values need nothing.
//!
//! [`Line`]: crate::text::Line

/// A field that is not text.
pub(crate) trait Plain: tracing::Value + Copy {}

macro_rules! plain {
    ($($type:ty)*) => { $(impl Plain for $type {})* };
}

plain! { bool u8 u16 u32 u64 usize i32 i64 f64 }

/// Accepts only fields that are not text.
pub(crate) fn plain<T: Plain>(value: T) -> T {
    value
}

/// Builds an event field by field; the message is the last of them.
macro_rules! event {
    ([$($head:tt)*] [$($fields:tt)*] $format:literal $($args:tt)*) => {
        tracing::event!(
            $($head)*,
            $($fields)*
            "{}",
            $crate::text::Line(format_args!($format $($args)*))
        )
    };
    ([$($head:tt)*] [$($fields:tt)*] % $name:ident, $($rest:tt)+) => {
        $crate::log::event!(
            [$($head)*] [$($fields)* $name = %$crate::text::Line(format_args!("{}", $name)),] $($rest)+
        )
    };
    ([$($head:tt)*] [$($fields:tt)*] ? $name:ident, $($rest:tt)+) => {
        $crate::log::event!(
            [$($head)*] [$($fields)* $name = %$crate::text::Line(format_args!("{:?}", $name)),] $($rest)+
        )
    };
    ([$($head:tt)*] [$($fields:tt)*] $name:ident = % $value:expr, $($rest:tt)+) => {
        $crate::log::event!(
            [$($head)*] [$($fields)* $name = %$crate::text::Line(format_args!("{}", $value)),] $($rest)+
        )
    };
    ([$($head:tt)*] [$($fields:tt)*] $name:ident = ? $value:expr, $($rest:tt)+) => {
        $crate::log::event!(
            [$($head)*] [$($fields)* $name = %$crate::text::Line(format_args!("{:?}", $value)),] $($rest)+
        )
    };
    ([$($head:tt)*] [$($fields:tt)*] $name:ident = $value:expr, $($rest:tt)+) => {
        $crate::log::event!(
            [$($head)*] [$($fields)* $name = $crate::log::plain($value),] $($rest)+
        )
    };
    ([$($head:tt)*] [$($fields:tt)*] $name:ident, $($rest:tt)+) => {
        $crate::log::event!(
            [$($head)*] [$($fields)* $name = $crate::log::plain($name),] $($rest)+
        )
    };
}

macro_rules! error {
    ($($line:tt)+) => { $crate::log::event!([tracing::Level::ERROR] [] $($line)+) };
}

macro_rules! warn_of {
    ($($line:tt)+) => { $crate::log::event!([tracing::Level::WARN] [] $($line)+) };
}

macro_rules! info {
    (target: $target:literal, $($line:tt)+) => {
        $crate::log::event!([target: $target, tracing::Level::INFO] [] $($line)+)
    };
    ($($line:tt)+) => { $crate::log::event!([tracing::Level::INFO] [] $($line)+) };
}

macro_rules! debug {
    ($($line:tt)+) => { $crate::log::event!([tracing::Level::DEBUG] [] $($line)+) };
}

pub(crate) use {debug, error, event, info, warn_of as warn};
