//! Numbers as the C tools read them: `strtol` with base 0, but never half a number.

/// Reads a whole number: decimal, hexadecimal after `0x`, octal after `0`; blanks before it and a sign are allowed.
///
/// # Errors
/// Anything else, trailing characters included, which `strtol` would pass over in silence.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    let trimmed = text.trim_start();
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(rest) => (rest, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    // from_str_radix takes a sign of its own.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(format!("{text:?} is not a number (decimal, 0x hexadecimal, 0 octal)"));
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
    let value = integer(text)?;
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
