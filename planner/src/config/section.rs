//! Sections of the config as structs: a key stands in one place, with its type, its default and how it is read. Pure.

use super::node::Node;

/// Makes structs whose fields are keys, each with its default and the function that reads it:
/// `window: Duration = Duration::from_secs(300), time(SECOND..=DAY);`.
///
/// A reader gets the [`Node`] of the key. It gives the value; or it complains and gives none, and the default stays.
///
/// - `field as key`: the key has another name than the field.
/// - A text behind the reader: the key must be given, and the text says what to write.
/// - `beside { … }`: fields that are no keys.
#[macro_export]
macro_rules! section {
    ($(
        $(#[$about:meta])*
        $vis:vis struct $name:ident
        $( beside {
            $( $(#[$about_other:meta])* $other_vis:vis $other:ident: $other_type:ty = $other_default:expr; )*
        } )?
        {
            $(
                $(#[$about_key:meta])*
                $key_vis:vis $field:ident $(as $key:ident)?: $type:ty = $default:expr, $read:expr $(, $hint:literal)?;
            )*
        }
    )*) => { $(
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name {
            $( $(#[$about_key])* $key_vis $field: $type, )*
            $($( $(#[$about_other])* $other_vis $other: $other_type, )*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: $default, )*
                    $($( $other: $other_default, )*)?
                }
            }
        }

        impl Section for $name {
            fn over(self, node: &Node<'_>) -> Option<Self> {
                let mut keys = node.keys()?;
                let read = Self {
                    $( $field: keys.take(
                        section!(@key $field $(as $key)?),
                        self.$field,
                        $read,
                        section!(@hint $($hint)?),
                    ), )*
                    $($( $other: self.$other, )*)?
                };
                keys.finish();
                Some(read)
            }
        }
    )* };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident as $key:ident) => { stringify!($key) };
    (@hint) => { None };
    (@hint $hint:literal) => { Some($hint) };
}

pub use section;

/// A struct of [`section!`].
pub trait Section: Default {
    /// Reads a table; `self` has the values of the keys that are left out.
    fn over(self, node: &Node<'_>) -> Option<Self>;

    /// Reads a table; the keys that are left out have their defaults.
    fn read(node: &Node<'_>) -> Option<Self> {
        Self::default().over(node)
    }
}
