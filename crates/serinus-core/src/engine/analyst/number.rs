//! Numbers as they are written: whole ones are compared to the last digit, however long, others as floats.

/// A number in JSON's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<'a> {
    text: &'a str,
}

/// The value of a number: `digits` times ten to the `exponent`, without zeros at either end of the digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl<'a> Number<'a> {
    /// Reads the number that a text begins with, if it begins with one.
    pub fn at_start_of(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let digits = |from: usize| {
            from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let is = |at: usize, marks: &[u8]| bytes.get(at).is_some_and(|byte| marks.contains(byte));
        let start = usize::from(is(0, b"-"));
        let mut end = digits(start);
        if end == start || (end > start + 1 && is(start, b"0")) {
            return None;
        }
        if is(end, b".") {
            let fraction = end + 1;
            end = digits(fraction);
            if end == fraction {
                return None;
            }
        }
        if is(end, b"eE") {
            let exponent = end + 1 + usize::from(is(end + 1, b"+-"));
            end = digits(exponent);
            if end == exponent {
                return None;
            }
        }
        Some(Self { text: &text[..end] })
    }

    /// Reads a text that is a number and nothing else.
    pub fn of(text: &'a str) -> Option<Self> {
        Self::at_start_of(text).filter(|number| number.text.len() == text.len())
    }

    /// Returns how it is written.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// Returns the nearest float; infinite where there is none.
    pub fn float(self) -> f64 {
        self.text.parse().unwrap_or(f64::NAN)
    }

    /// Returns the value without rounding.
    pub fn decimal(self) -> Decimal {
        let (is_negative, text) = match self.text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, self.text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // An exponent with too many digits is as large as one can be.
        let farthest = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
        let written: i64 = exponent.trim_start_matches('+').parse().unwrap_or(farthest);
        let digits = [whole, fraction].concat();
        let digits = digits.trim_start_matches('0');
        let kept = digits.trim_end_matches('0');
        if kept.is_empty() {
            return Decimal { is_negative: false, digits: String::new(), exponent: 0 };
        }
        let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
        let exponent =
            written.saturating_sub(length(fraction)).saturating_add(length(digits) - length(kept));
        Decimal { is_negative, digits: kept.to_owned(), exponent }
    }

    fn has_exponent(self) -> bool {
        self.text.contains(['e', 'E'])
    }

    /// Returns whether two numbers are no further apart than a tolerance.
    ///
    /// Whole numbers are compared to the last digit. Floats print whole values with an exponent, so two of those, and all
    /// fractions, are compared as floats.
    pub fn is_within(self, other: Self, tolerance: f64) -> bool {
        let (ours, theirs) = (self.decimal(), other.decimal());
        if ours == theirs {
            return true;
        }
        let are_whole = ours.is_whole() && theirs.is_whole();
        if are_whole && !(self.has_exponent() && other.has_exponent()) {
            return match (ours.whole(), theirs.whole()) {
                (Some(x), Some(y)) => x.abs_diff(y) as f64 <= tolerance,
                // One ulp of a number this long is more than most tolerances.
                (_, _) => tolerance > 0.0 && (self.float() - other.float()).abs() <= tolerance,
            };
        }
        (self.float() - other.float()).abs() <= tolerance
    }
}

impl Decimal {
    /// Returns whether it has no fraction.
    pub fn is_whole(&self) -> bool {
        self.exponent >= 0
    }

    /// Returns its value where that is a whole number of at most 38 digits.
    pub fn whole(&self) -> Option<i128> {
        let zeros = u32::try_from(self.exponent).ok().filter(|zeros| *zeros <= 38)?;
        let digits: i128 = if self.digits.is_empty() { 0 } else { self.digits.parse().ok()? };
        let size = digits.checked_mul(10_i128.checked_pow(zeros)?)?;
        Some(if self.is_negative { -size } else { size })
    }
}

#[cfg(test)]
mod tests {
    use super::Number;

    #[test]
    fn whole_numbers_are_compared_to_the_last_digit() {
        let check = |ours: &str, theirs: &str, tolerance: f64, expected: bool| {
            let (x, y) = (Number::of(ours).expect(ours), Number::of(theirs).expect(theirs));
            assert_eq!(x.is_within(y, tolerance), expected, "{ours} {theirs} {tolerance}");
            assert_eq!(y.is_within(x, tolerance), expected, "{theirs} {ours} {tolerance}");
        };
        check("9007199254740993", "9007199254740992", 0.0, false);
        check("9007199254740993", "9007199254740992", 0.5, false);
        check("9007199254740993", "9007199254740992", 1.0, true);
        check("9007199254740993", "9007199254740992.0", 0.0, false);
        check("-9007199254740993", "9007199254740993", 0.0, false);
        check("18446744073709551617", "18446744073709551616", 0.0, false);
        check(
            "123456789012345678901234567890123456789012",
            "123456789012345678901234567890123456789013",
            0.0,
            false,
        );
        check(
            "123456789012345678901234567890123456789012",
            "123456789012345678901234567890123456789012.00",
            0.0,
            true,
        );
        check("1", "1.0", 0.0, true);
        check("1", "10e-1", 0.0, true);
        check("1e2", "100", 0.0, true);
        check("-0", "0.0", 0.0, true);
        check("0.1", "0.10000000000000001", 0.0, true);
        check("1e23", "9.9999999999999992e22", 0.0, true);
        check("0.1", "0.2", 0.05, false);
        check("0.1", "0.12", 0.05, true);
        check("3", "4", 1.0, true);
        check("3", "3.5", 0.5, true);
        check("1e400", "1e400", 0.0, true);
        check("1e400", "1e401", 1.0, false);
    }

    #[test]
    fn only_the_forms_of_json_are_numbers() {
        for text in ["0", "-0", "10", "1.5", "-1.5e-3", "1E+5", "0.0"] {
            assert!(Number::of(text).is_some(), "{text}");
        }
        for text in ["", "-", "01", "1.", ".5", "+1", "1e", "1e+", "NaN", "0x1", "1 ", "1_0", "--1"]
        {
            assert!(Number::of(text).is_none(), "{text}");
        }
    }
}
