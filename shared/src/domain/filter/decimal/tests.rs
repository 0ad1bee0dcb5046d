use proptest::prelude::*;

use super::*;

fn cmp(one: &str, two: &str) -> Ordering {
    Decimal::parse(one).unwrap().cmp(&Decimal::parse(two).unwrap())
}

#[test]
fn numbers_that_say_the_same_are_equal() {
    let long = "9".repeat(60);
    for (one, two) in [
        ("1e16", "10000000000000000"),
        ("-0", "0"),
        ("-0.0e-5", "0E+99999999999999999999999999999999999999999999"),
        ("120", "120.0"),
        ("120", "1.20e2"),
        ("0.05", "5e-2"),
        ("0.0500", "0.5e-1"),
        ("123456789012345678901", "123456789012345678901.000"),
        ("10e999999999999999999", "1e1000000000000000000"),
        // Where exponents change from one form into the other.
        (
            &format!("10e{}", "9".repeat(37)),
            &format!("1e1{}", "0".repeat(37)),
        ),
        (
            &format!("0.1e1{}", "0".repeat(37)),
            &format!("1e{}", "9".repeat(37)),
        ),
        (
            &format!("0.01e-{}", "9".repeat(37)),
            &format!("1e-1{}1", "0".repeat(36)),
        ),
        (
            &format!("10e-1{}", "0".repeat(37)),
            &format!("1e-{}", "9".repeat(37)),
        ),
        (&format!("10e{long}"), &format!("1e1{}", "0".repeat(60))),
    ] {
        assert_eq!(cmp(one, two), Ordering::Equal, "{one} {two}");
    }
}

#[test]
fn numbers_are_in_their_order_at_any_size() {
    let huge = format!("1e{}", "9".repeat(200_000));
    let ordered = [
        "-1e400",
        "-1780921717355446273",
        "-1780921717355446272",
        "-1e-400",
        "-0",
        "1e-99999999999999999999999999999999999999999999999999",
        "1e-99999999999999999999999999999999999999999999999998",
        "1e-999999999",
        "0.1",
        "0.10000000000000000000000000000000001",
        "9",
        "10",
        "1780921717355446272",
        "1780921717355446273",
        "123456789012345678901",
        "123456789012345678902",
        "1e400",
        "1e999999999",
        "9e999999999",
        "1e99999999999999999999999999999999999999999999999999",
        "2e99999999999999999999999999999999999999999999999999",
        &huge,
    ];
    for (one, lower) in ordered.iter().enumerate() {
        for (two, upper) in ordered.iter().enumerate() {
            assert_eq!(cmp(lower, upper), one.cmp(&two), "{lower} {upper}");
        }
    }
}

fn length(text: &str) -> i32 {
    i32::try_from(text.len()).unwrap()
}

/// A whole number and what power of ten to divide it by, as plain digits: 60 before the point, 60 after it.
fn written_out(number: &str) -> (bool, String) {
    let (is_negative, number) = (number.starts_with('-'), number.trim_start_matches('-'));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let point = length(whole) + exponent.parse::<i32>().unwrap();
    let mut places = vec![b'0'; 120];
    for (index, digit) in (0..).zip(whole.bytes().chain(fraction.bytes())) {
        if digit != b'0' {
            places[usize::try_from(60 - point + index).unwrap()] = digit;
        }
    }
    (is_negative, String::from_utf8(places).unwrap())
}

fn naive(one: &str, two: &str) -> Ordering {
    let ((one_negative, one), (two_negative, two)) = (written_out(one), written_out(two));
    let zero = "0".repeat(120);
    match (one_negative && one != zero, two_negative && two != zero) {
        (false, false) => one.cmp(&two),
        (true, true) => two.cmp(&one),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    }
}

proptest! {
    #[test]
    fn the_order_is_that_of_numbers_written_out(
        one in "-?(0|[1-9][0-9]{0,12})(\\.[0-9]{1,12})?([eE][+-]?0{0,2}[0-2]?[0-9])?",
        two in "-?(0|[1-9]0{0,3}[0-9]{0,2})(\\.0{0,3}[0-9]{1,2})?([eE][+-]?[0-9])?",
        zeros in 0..5_usize,
    ) {
        prop_assert_eq!(cmp(&one, &two), naive(&one, &two));
        // The same number in another spelling.
        let (mantissa, exponent) = two.split_once(['e', 'E']).unwrap_or((&two, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let shifted = exponent.parse::<i32>().unwrap() - length(fraction) - i32::try_from(zeros).unwrap();
        let other = format!("{whole}{fraction}{}e{shifted}", "0".repeat(zeros));
        prop_assert_eq!(cmp(&two, &other), Ordering::Equal, "{}", other);
        prop_assert_eq!(cmp(&one, &other), naive(&one, &two), "{}", other);
    }

    #[test]
    fn an_exponent_of_any_length_is_compared_exactly(start in "[1-9][0-9]{34,37}", negative: bool, more in -50..50_i64) {
        let sum = start.parse::<i128>().unwrap() + i128::from(more);
        let sign = if negative { "-" } else { "" };
        let (low, high) = (format!("1e{sign}{start}"), format!("1e{sign}{sum}"));
        let order = if negative { 0.cmp(&more) } else { more.cmp(&0) };
        prop_assert_eq!(cmp(&high, &low), order);
        if more > 0 && !negative {
            let zeros = "0".repeat(usize::try_from(more).unwrap());
            prop_assert_eq!(cmp(&format!("1{zeros}{}", &low[1..]), &high), Ordering::Equal);
        }
    }
}

#[test]
fn what_is_no_number_is_none() {
    for text in [
        "", "-", ".5", "1e", "1e+", "1x", "+1", "1e1.5", "NaN", "--1", "1ee1",
    ] {
        assert!(Decimal::parse(text).is_none(), "{text}");
    }
}
