//! Sets of flags: newtypes over the kernel's bits.

/// Defines a set of flags: a constant for each, set operations, and a `Debug` that names them.
///
/// Bits without a name are kept, since a newer kernel may report them.
macro_rules! flags {
    ($(#[$meta:meta])* $vis:vis $name:ident { $( $(#[$fmeta:meta])* $flag:ident = $value:expr; )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        #[repr(transparent)]
        $vis struct $name(u32);

        #[allow(dead_code, unreachable_pub)] // private sets do not use all of it
        impl $name {
            $( $(#[$fmeta])* pub const $flag: Self = Self($value); )*

            /// The flags that have a name, with their names.
            const NAMES: &'static [(Self, &'static str)] = &[ $( (Self::$flag, stringify!($flag)), )* ];

            /// Returns the set without any flag.
            #[must_use]
            pub const fn empty() -> Self {
                Self(0)
            }

            /// Returns the set of all flags that have a name.
            #[must_use]
            pub const fn all() -> Self {
                Self(0 $( | $value )*)
            }

            /// Returns the set with these bits, whether they have names or not.
            #[must_use]
            pub const fn from_bits(bits: u32) -> Self {
                Self(bits)
            }

            /// Returns the bits.
            #[must_use]
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// Returns whether no flag is set.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Returns whether all flags of `other` are set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Returns whether any flag of `other` is set.
            #[must_use]
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// Returns the flags of either set.
            #[must_use]
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Returns the flags of both sets.
            #[must_use]
            pub const fn intersection(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            /// Returns the flags of this set that are not in `other`.
            #[must_use]
            pub const fn difference(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Returns the single flags of this set; bits without a name come last, together.
            pub fn iter(self) -> impl Iterator<Item = Self> {
                let named = Self::NAMES.iter().map(|(flag, _)| *flag).filter(move |flag| self.contains(*flag));
                let rest = self.difference(Self::all());
                named.chain(std::iter::once(rest).filter(|rest| !rest.is_empty()))
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.union(other)
            }
        }

        impl std::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }

        impl std::ops::BitAnd for $name {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                self.intersection(other)
            }
        }

        impl std::ops::Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                self.difference(other)
            }
        }

        impl FromIterator<$name> for $name {
            fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
                sets.into_iter().fold(Self::empty(), Self::union)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                for (n, flag) in self.iter().enumerate() {
                    f.write_str(if n > 0 { " | " } else { "" })?;
                    match Self::NAMES.iter().find(|(named, _)| *named == flag) {
                        Some((_, name)) => f.write_str(name)?,
                        None => write!(f, "{:#x}", flag.0)?,
                    }
                }
                f.write_str(")")
            }
        }
    };
}

pub(crate) use flags;

#[cfg(test)]
mod tests {
    flags! {
        Fruit {
            APPLE = 1 << 0;
            PEAR = 1 << 1;
            PLUM = 1 << 4;
        }
    }

    #[test]
    fn sets_behave_like_sets() {
        let two = Fruit::APPLE | Fruit::PLUM;
        assert!(two.contains(Fruit::APPLE) && !two.contains(Fruit::APPLE | Fruit::PEAR));
        assert!(two.intersects(Fruit::APPLE | Fruit::PEAR) && !two.intersects(Fruit::PEAR));
        assert_eq!(two - Fruit::APPLE, Fruit::PLUM);
        assert_eq!(two & Fruit::PLUM, Fruit::PLUM);
        assert_eq!(Fruit::all().bits(), 0b1_0011);
        assert_eq!(two.iter().collect::<Vec<_>>(), [Fruit::APPLE, Fruit::PLUM]);
        assert_eq!(two.iter().collect::<Fruit>(), two);
        let mut set = Fruit::empty();
        set |= Fruit::PEAR;
        assert!(set == Fruit::PEAR && !set.is_empty() && Fruit::default().is_empty());
    }

    #[test]
    fn bits_without_a_name_are_kept() {
        let set = Fruit::from_bits(0x42);
        assert_eq!(set.bits(), 0x42);
        assert_eq!(format!("{set:?} {:?}", Fruit::empty()), "Fruit(PEAR | 0x40) Fruit()");
    }
}
