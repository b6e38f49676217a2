//! TLS on the listener: rustls with aws-lc-rs, HTTP/2 and HTTP/1.1 by ALPN, certificates that are read again when they
//! change, and client certificates where an authority for them is named.
//!
//! **Invariant:** files that cannot be used leave the ones before them in force.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct TlsError {
    /// The file that is meant.
    pub file: PathBuf,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// A server configuration that can be read anew while connections go on.
pub struct Reloading {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    current: ArcSwap<ServerConfig>,
}

impl Reloading {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn open(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let current = ArcSwap::from_pointee(load(certificate, key, client_ca)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), client_ca: client_ca.map(Path::to_owned), current })
    }

    /// Reads the files again. New connections get what they hold now.
    ///
    /// # Errors
    /// As [`Reloading::open`]; the ones before stay in force.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(load(&self.certificate, &self.key, self.client_ca.as_deref())?));
        Ok(())
    }

    /// Shakes hands on a new connection.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        TlsAcceptor::from(self.current.load_full()).accept(stream).await
    }
}

fn load(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<ServerConfig, TlsError> {
    let fail = |file: &Path, reason: String| TlsError { file: file.to_owned(), reason };
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| fail(key, format!("holds no private key that can be read: {error}; give a PEM file")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| fail(certificate, error.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(file)? {
                roots.add(root).map_err(|error| fail(file, format!("holds a certificate that cannot be used: {error}")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| fail(file, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|error| {
        fail(certificate, format!("does not go with the key: {error}; give the chain of that key, leaf first"))
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(TlsError { file: file.to_owned(), reason: "holds no certificate; give a PEM file".into() }),
        Err(error) => {
            Err(TlsError { file: file.to_owned(), reason: format!("cannot be read as certificates: {error}; give a PEM file") })
        }
    }
}
