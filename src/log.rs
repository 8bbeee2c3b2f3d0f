//! The only way to the log. Every line of this crate passes through [`Line`]: ids, queue names,
//! errors and all other text from outside are escaped by construction.
//!
//! The macros take the same arguments as `tracing`'s, except that text as a field needs `%` or
//! `?`; numbers and truth values need nothing.
//!
//! Why not `tracing` directly. A job's id or a Redis error may contain a line break or a
//! terminal's control sequence. With `tracing` each call would have to remember to escape it;
//! here a call that forgets it does not compile, because [`plain`] accepts no text.
//! `tests/it/layers.rs` keeps `tracing`'s own macros out of the other modules.
//!
//! What belongs in a line: ids, names, counts, durations, error texts. Payloads, headers,
//! results and credentials never do. Something that goes on happening is logged once when it
//! begins and once when it ends, not each time.
//!
//! [`Line`]: crate::text::Line

/// A field that is not text, and so cannot carry anything that needs escaping.
pub(crate) trait PlainField: tracing::Value + Copy {}

macro_rules! plain {
    ($($type:ty)*) => { $(impl PlainField for $type {})* };
}

plain! { bool u8 u16 u32 u64 usize i32 i64 f64 }

/// Accepts only fields that are not text.
pub(crate) fn plain<T: PlainField>(value: T) -> T {
    value
}

/// Builds an event field by field; the message is the last of them.
///
/// The first bracket holds level and target, the second the fields that are done. Each rule
/// takes one field off the front, escapes it, and calls the macro again with the rest; the
/// first rule finds nothing but the message left. Shorthands (`%name`) need rules of their own,
/// since a macro cannot tell a name from an expression.
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

/// A failure that somebody has to do something about.
macro_rules! error {
    ($($line:tt)+) => { $crate::log::event!([tracing::Level::ERROR] [] $($line)+) };
}

/// Something is wrong, and the process goes on. Exported as `warn`: a macro cannot be defined
/// under that name, because it is a built-in attribute too.
macro_rules! warn_of {
    ($($line:tt)+) => { $crate::log::event!([tracing::Level::WARN] [] $($line)+) };
}

/// A change of state worth knowing: connected, drained, settings changed.
macro_rules! info {
    (target: $target:literal, $($line:tt)+) => {
        $crate::log::event!([target: $target, tracing::Level::INFO] [] $($line)+)
    };
    ($($line:tt)+) => { $crate::log::event!([tracing::Level::INFO] [] $($line)+) };
}

/// What helps to understand a failure, and would be noise otherwise.
macro_rules! debug {
    ($($line:tt)+) => { $crate::log::event!([tracing::Level::DEBUG] [] $($line)+) };
}

pub(crate) use {debug, error, event, info, warn_of as warn};
