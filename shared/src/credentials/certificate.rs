//! Client certificates, with their keys and the authorities of the receiver.

use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use x509_parser::parse_x509_certificate;

use crate::hidden::SecretText;

/// Longest PEM text of a field, in bytes.
pub const MAX_PEM_BYTES: usize = 16 * 1_024;

/// Most certificates in a field.
const MAX_CERTIFICATES: usize = 10;

/// A certificate as its owner gave it, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// The certificate, and those between it and an authority.
    pub certificate: String,
    /// Its private key, unencrypted.
    pub key: SecretText,
    /// The authorities that the receiver's own certificate may come from; the system's unless given.
    pub ca: Option<String>,
}

/// A certificate that was read.
#[derive(Debug)]
pub struct ReadCertificate {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// The receiver's authorities; none for the system's.
    pub authorities: Option<RootCertStore>,
    /// When the certificate expires.
    pub expires_at: OffsetDateTime,
}

/// What is wrong with a certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongCertificate {
    /// The field.
    pub field: &'static str,
    /// What is wrong.
    pub detail: String,
}

impl ClientCertificate {
    /// Takes the PEM texts apart, and checks that the key is the certificate's.
    ///
    /// # Errors
    /// With the first field that is wrong.
    pub fn read(&self) -> Result<ReadCertificate, WrongCertificate> {
        let chain = certificates("certificate", &self.certificate)?;
        let expires_at = expiry(&chain[0]).ok_or_else(|| wrong("certificate", "is no X.509 certificate"))?;
        let key = self.read_key(&chain)?;
        let authorities = self.ca.as_deref().map(authorities).transpose()?;
        Ok(ReadCertificate {
            chain,
            key,
            authorities,
            expires_at,
        })
    }

    fn read_key(
        &self,
        chain: &[CertificateDer<'static>],
    ) -> Result<PrivateKeyDer<'static>, WrongCertificate> {
        let text = self.key.reveal();
        check_length("key", text)?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes());
        let key = key.map_err(|_| wrong("key", "is no unencrypted private key in PEM"))?;
        let signing = any_supported_type(&key);
        let signing = signing.map_err(|_| wrong("key", "is of a kind that is not supported"))?;
        match CertifiedKey::new(chain.to_vec(), signing).keys_match() {
            Ok(()) => Ok(key),
            Err(_) => Err(wrong("key", "is not the certificate's")),
        }
    }
}

fn authorities(text: &str) -> Result<RootCertStore, WrongCertificate> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("ca", text)? {
        let added = store.add(certificate);
        added.map_err(|_| wrong("ca", "has a certificate that is no authority's"))?;
    }
    Ok(store)
}

fn certificates(field: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, WrongCertificate> {
    check_length(field, text)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match read {
        Ok(read) if (1..=MAX_CERTIFICATES).contains(&read.len()) => Ok(read),
        Ok(read) if read.is_empty() => Err(wrong(field, "holds no certificate in PEM")),
        Ok(_) => Err(WrongCertificate {
            field,
            detail: format!("must not hold more than {MAX_CERTIFICATES} certificates"),
        }),
        Err(_) => Err(wrong(field, "is broken PEM")),
    }
}

fn check_length(field: &'static str, text: &str) -> Result<(), WrongCertificate> {
    if text.len() > MAX_PEM_BYTES {
        return Err(WrongCertificate {
            field,
            detail: format!("must not be longer than {MAX_PEM_BYTES} bytes"),
        });
    }
    Ok(())
}

fn expiry(certificate: &CertificateDer<'_>) -> Option<OffsetDateTime> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let seconds = parsed.validity().not_after.timestamp();
    let expires_at = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    // Later ones have no form in RFC 3339; RFC 5280 uses the last second of that year for `never`.
    (0..=9_999).contains(&expires_at.year()).then_some(expires_at)
}

fn wrong(field: &'static str, detail: &str) -> WrongCertificate {
    WrongCertificate {
        field,
        detail: detail.to_owned(),
    }
}
