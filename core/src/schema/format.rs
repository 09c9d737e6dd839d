//! What the values of `format` stand for. Where a format has rare forms that readers disagree about, these are left out.

macro_rules! label {
    () => {
        "[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,2}"
    };
}
macro_rules! host {
    () => {
        concat!(label!(), "(?:\\.", label!(), "){0,3}")
    };
}
macro_rules! date {
    () => {
        concat!(
            "(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
            "|02-(?:0[1-9]|1[0-9]|2[0-8]))",
            "|(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|1[26]|[3579][26])00)-02-29)"
        )
    };
}
macro_rules! time {
    () => {
        concat!(
            "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?",
            "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
        )
    };
}
macro_rules! of_time {
    () => {
        "(?:\\d{1,9}H(?:\\d{1,9}M(?:\\d{1,9}S)?)?|\\d{1,9}M(?:\\d{1,9}S)?|\\d{1,9}S)"
    };
}
macro_rules! octet {
    () => {
        "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    };
}
macro_rules! path {
    () => {
        "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
    };
}

/// The names, each with the pattern of its texts.
const PATTERNS: [(&str, &str); 11] = [
    ("date", concat!("^", date!(), "$")),
    ("time", concat!("^", time!(), "$")),
    ("date-time", concat!("^", date!(), "T", time!(), "$")),
    (
        "duration",
        concat!(
            "^P(?:\\d{1,9}W|(?:\\d{1,9}D|\\d{1,9}M(?:\\d{1,9}D)?|\\d{1,9}Y(?:\\d{1,9}M(?:\\d{1,9}D)?)?)(?:T",
            of_time!(),
            ")?|T",
            of_time!(),
            ")$"
        ),
    ),
    ("email", concat!("^[A-Za-z0-9_+-]{1,20}(?:\\.[A-Za-z0-9_+-]{1,20}){0,2}@", host!(), "$")),
    ("hostname", concat!("^", host!(), "$")),
    ("ipv4", concat!("^", octet!(), "\\.", octet!(), "\\.", octet!(), "\\.", octet!(), "$")),
    (
        "ipv6",
        concat!(
            "^(?:(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){0,5})?",
            "|(?:[0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4}|(?:[0-9a-fA-F]{1,4}:){1,7}:)$"
        ),
    ),
    ("uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"),
    (
        "uri",
        concat!(
            "^[A-Za-z][A-Za-z0-9+.-]*:(?://[A-Za-z0-9._~-]+(?::[0-9]{1,5})?|///",
            path!(),
            "*|",
            path!(),
            "+)(?:/",
            path!(),
            "*)*(?:\\?(?:[/?]|",
            path!(),
            ")*)?(?:#(?:[/?]|",
            path!(),
            ")*)?$"
        ),
    ),
    ("json-pointer", "^(?:/(?:[^~/]|~[01])*)*$"),
];

/// The pattern of a format.
pub fn pattern(name: &crate::file::json::Str<'_>) -> Option<&'static str> {
    PATTERNS.iter().find(|(known, _)| name == known).map(|(_, pattern)| *pattern)
}
