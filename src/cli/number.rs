//! Numbers as the C tools take them: decimal, `0x` hexadecimal, or octal with a leading `0`.

/// A kind of number that an option takes.
pub(crate) trait Number: Sized {
    /// The number, where it fits.
    fn from_number(value: i64) -> Option<Self>;
    /// What fits, in words.
    const RANGE: &'static str;
}

macro_rules! number {
    ($($ty:ty: $range:literal),*) => {
        $(impl Number for $ty {
            fn from_number(value: i64) -> Option<Self> {
                value.try_into().ok()
            }
            const RANGE: &'static str = $range;
        })*
    };
}

number! { u8: "0 to 255", u16: "0 to 65535", u32: "0 to 4294967295", i32: "-2147483648 to 2147483647" }

/// Reads an option's value.
pub(crate) fn parse<T: Number>(text: &str) -> Result<T, String> {
    T::from_number(value(text)?).ok_or_else(|| format!("it is {}", T::RANGE))
}

/// Reads any number that an option could take.
pub(crate) fn value(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (lower.as_str(), 10),
    };
    // from_str_radix alone would take a second sign.
    let value = Some(digits)
        .filter(|digits| digits.chars().all(|c| c.is_digit(radix)))
        .and_then(|digits| i64::from_str_radix(digits, radix).ok())
        .ok_or_else(|| "it is not a number".to_owned())?;
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_strtol_takes() {
        assert_eq!(parse::<u32>("4096"), Ok(4096));
        assert_eq!(parse::<u32>("0x1000"), Ok(4096));
        assert_eq!(parse::<u32>("010"), Ok(8));
        assert_eq!(parse::<u32>("0"), Ok(0));
        assert_eq!(parse::<i32>("-1"), Ok(-1));
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "x", "1k", "0x", "--1", "+-1", "99999999999999999999", "0X", "08"] {
            assert!(value(text).is_err(), "{text}");
        }
        assert_eq!(parse::<u16>("65536"), Err("it is 0 to 65535".to_owned()));
        assert!(parse::<u32>("-1").is_err());
    }
}
