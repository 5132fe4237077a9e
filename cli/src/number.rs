//! Numbers as the C tools read them: `strtol` with base 0, or `atoi`, but never half a number.

/// Reads a whole number: decimal, hexadecimal after `0x`, octal after `0`; blanks before it and a sign are allowed.
///
/// # Errors
/// Anything else, trailing characters included, which `strtol` would pass over in silence.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    let (negative, digits) = sign(text);
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(rest) => (rest, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    value(text, negative, digits, radix, "number (decimal, 0x hexadecimal, 0 octal)")
}

/// Reads a whole number that is decimal whatever it begins with, as rping does.
///
/// # Errors
/// Anything else, trailing characters included, which `atoi` would pass over in silence.
pub(crate) fn decimal(text: &str) -> Result<i64, String> {
    let (negative, digits) = sign(text);
    value(text, negative, digits, 10, "decimal number")
}

fn sign(text: &str) -> (bool, &str) {
    let trimmed = text.trim_start();
    match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    }
}

fn value(text: &str, negative: bool, digits: &str, radix: u32, what: &str) -> Result<i64, String> {
    // from_str_radix takes a sign of its own.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(format!("{text:?} is not a {what}"));
    }
    let value = i128::from_str_radix(digits, radix).unwrap_or(i128::MAX);
    let value = if negative { -value } else { value };
    i64::try_from(value).map_err(|_| format!("{text} is too large"))
}

/// Reads a number that fits `T`, between `least` and `most`.
///
/// # Errors
/// Not a number, or out of that range, which the error gives.
pub(crate) fn between<T>(text: &str, least: T, most: T) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + Copy + std::fmt::Display,
{
    within(integer(text)?, least, most)
}

/// The same of a number that was read.
///
/// # Errors
/// It is out of that range.
pub(crate) fn within<T>(value: i64, least: T, most: T) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + Copy + std::fmt::Display,
{
    T::try_from(value)
        .ok()
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| format!("{value} is out of range: {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_strtol_reads() {
        for (text, value) in [
            ("10", 10),
            ("0x10", 16),
            ("0X1f", 31),
            ("010", 8),
            ("0", 0),
            (" -3", -3),
            ("+7", 7),
            ("-0x8", -8),
        ] {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn rping_counts_in_tens() {
        assert_eq!([decimal("010"), decimal(" -3"), decimal("+7")], [Ok(10), Ok(-3), Ok(7)]);
        for text in ["0x10", "1x", "", "--1"] {
            assert!(decimal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_half_a_number() {
        for text in ["", "x", "1x", "0x", "08", "1 ", "--1", "0x-1", "+", "99999999999999999999", "٣"] {
            assert!(integer(text).is_err(), "{text}");
        }
        assert!(integer(&"9".repeat(60)).is_err());
    }

    #[test]
    fn names_the_range() {
        assert_eq!(between("255", 1u8, 255), Ok(255));
        assert_eq!(between("0", 1u8, 255), Err("0 is out of range: 1 to 255".to_owned()));
        assert_eq!(between("0x1000", 1u8, 255), Err("4096 is out of range: 1 to 255".to_owned()));
    }
}
