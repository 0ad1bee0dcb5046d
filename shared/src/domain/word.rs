//! Words: closed sets of names that stand alike in the database, in the API, in metrics and in the API's schema.

/// A name that stands where a word of a closed set belongs: a later release may have written it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no {set} that this release knows")]
pub struct UnknownWord {
    /// The name.
    pub name: String,
    /// What it should have named.
    pub set: &'static str,
}

/// Makes an enum of words from one table of names. The text after the enum's name says what the words are, in errors.
///
/// An enum that comes of it is `text` to Postgres, a string to serde, and an enum of strings in the API's schema. Reading any
/// other name is an error that names it. The crate that uses this needs `serde`, `sqlx` and `utoipa`.
#[macro_export]
macro_rules! words {
    (
        $(#[$enum_meta:meta])*
        $visibility:vis enum $Set:ident($set:literal) {
            $($(#[$meta:meta])* $Word:ident = $name:tt,)+
        }
    ) => {
        $(#[$enum_meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        $visibility enum $Set {
            $($(#[$meta])* #[serde(rename = $name)] $Word,)+
        }

        impl $Set {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Word),+];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Word => $name,)+
                }
            }
        }

        impl std::fmt::Display for $Set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $Set {
            type Err = $crate::domain::word::UnknownWord;

            fn from_str(name: &str) -> ::std::result::Result<Self, Self::Err> {
                match name {
                    $($name => Ok(Self::$Word),)+
                    _ => Err($crate::domain::word::UnknownWord { name: name.to_owned(), set: $set }),
                }
            }
        }

        impl sqlx::Type<sqlx::Postgres> for $Set {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                <str as sqlx::Type<sqlx::Postgres>>::type_info()
            }

            fn compatible(other: &sqlx::postgres::PgTypeInfo) -> bool {
                <str as sqlx::Type<sqlx::Postgres>>::compatible(other)
            }
        }

        impl sqlx::postgres::PgHasArrayType for $Set {
            fn array_type_info() -> sqlx::postgres::PgTypeInfo {
                <&str as sqlx::postgres::PgHasArrayType>::array_type_info()
            }

            fn array_compatible(other: &sqlx::postgres::PgTypeInfo) -> bool {
                <&str as sqlx::postgres::PgHasArrayType>::array_compatible(other)
            }
        }

        impl sqlx::Encode<'_, sqlx::Postgres> for $Set {
            fn encode_by_ref(
                &self,
                buffer: &mut sqlx::postgres::PgArgumentBuffer,
            ) -> ::std::result::Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
                sqlx::Encode::<sqlx::Postgres>::encode(self.as_str(), buffer)
            }
        }

        impl<'r> sqlx::Decode<'r, sqlx::Postgres> for $Set {
            fn decode(value: sqlx::postgres::PgValueRef<'r>) -> ::std::result::Result<Self, sqlx::error::BoxDynError> {
                Ok(<&str as sqlx::Decode<'r, sqlx::Postgres>>::decode(value)?.parse()?)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::domain::delivery::{DeliveryStatus, Outcome, RecoveryStatus};
    use crate::domain::endpoint::{EndpointKind, EndpointStatus, Format, OnExhausted, WebhookMethod};
    use crate::domain::tier::Tier;

    /// Each word is read from its own name, and from no other; a body holds the same name.
    macro_rules! check {
        ($($Set:ident),+) => {$(
            for word in $Set::ALL {
                assert_eq!(word.as_str().parse(), Ok(*word));
                assert_eq!(word.to_string(), word.as_str());
                let json = format!("\"{word}\"");
                assert_eq!(serde_json::to_string(word).unwrap(), json);
                assert_eq!(serde_json::from_str::<$Set>(&json).unwrap(), *word);
            }
            let later = "galactic".parse::<$Set>().unwrap_err().to_string();
            assert!(later.starts_with("`galactic` is no "), "{later}");
            let body = serde_json::from_str::<$Set>("\"galactic\"").unwrap_err().to_string();
            assert!(body.contains("`galactic`"), "{body}");
        )+};
    }

    #[test]
    fn each_word_has_one_name_and_an_unknown_name_is_an_error_that_says_it() {
        check!(
            Outcome,
            DeliveryStatus,
            RecoveryStatus,
            EndpointKind,
            EndpointStatus,
            Format,
            OnExhausted,
            WebhookMethod,
            Tier
        );
        let later = "galactic".parse::<Tier>().unwrap_err().to_string();
        assert_eq!(later, "`galactic` is no tier that this release knows");
    }
}
