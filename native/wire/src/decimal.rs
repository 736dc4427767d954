//! Decimal numbers as both protocols write them.

/// Reads `1*DIGIT`; `None` for anything else and beyond 64 bits.
#[must_use]
pub fn parse(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Appends `number` without allocating for it.
pub fn push(mut number: u64, into: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    into.extend_from_slice(&digits[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_back_as_written() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX - 1, u64::MAX] {
            let mut text = Vec::new();
            push(number, &mut text);
            assert_eq!(text, number.to_string().into_bytes());
            assert_eq!(parse(&text), Some(number));
        }
    }

    #[test]
    fn nothing_but_digits_is_a_number() {
        for text in ["", "+5", "-1", "5 ", " 5", "0x10", "5,5", "1e3", "18446744073709551616", "99999999999999999999"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"007"), Some(7));
    }
}
