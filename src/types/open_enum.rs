//! Sets of values that the kernel may extend: newtypes with a constant for each known value.
//!
//! A Rust `enum` would have to give a new value a variant one day, and `Other(7)` would no longer equal it. A newtype holds
//! every value of a newer kernel unchanged, and a constant that is added later breaks nobody.

/// Defines a newtype over an integer, its constants, their names, `Debug`, `Display` and conversions.
///
/// Each line is a constant, its number, and the name that `Display` prints; `Debug` prints the constant's own name.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident: $repr:ty { $( $(#[$vmeta:meta])* $constant:ident = $value:expr, $text:literal; )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(
            /// The kernel's number.
            pub $repr,
        );

        impl $name {
            $( $(#[$vmeta])* pub const $constant: Self = Self($value); )*

            /// Returns the name of a known value, `None` for any other.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                $( if self.0 == $value { return Some($text); } )*
                None
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => write!(f, "unknown ({})", self.0),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $( if *self == Self::$constant { return f.write_str(stringify!($constant)); } )*
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl From<$repr> for $name {
            fn from(value: $repr) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $repr {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

pub(crate) use open_enum;

#[cfg(test)]
mod tests {
    #![allow(unreachable_pub)]

    open_enum! {
        Colour: u8 {
            RED = 1, "red";
            DARK_BLUE = 2, "dark blue";
        }
    }

    #[test]
    fn known_values_have_names() {
        assert_eq!(Colour::DARK_BLUE.to_string(), "dark blue");
        assert_eq!(format!("{:?}", Colour::DARK_BLUE), "DARK_BLUE");
        assert_eq!(Colour::from(1), Colour::RED);
        assert_eq!(format!("[{:<5}]", Colour::RED), "[red  ]");
    }

    #[test]
    fn unknown_values_are_kept() {
        let newer = Colour::from(9);
        assert_eq!(newer, Colour(9));
        assert_eq!(u8::from(newer), 9);
        assert_eq!((newer.name(), newer.to_string()), (None, "unknown (9)".to_owned()));
        assert_eq!(format!("{newer:?}"), "Colour(9)");
    }
}
