//! Certificates of an authority of our own, clients that trust it, and what a server needs to show one.
//!
//! **Invariant:** nothing here is trusted by anybody else: an authority lives as long as its value.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use crate::SOON;
use crate::client::Connection;

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Pair {
    /// What a server needs that shows this certificate and offers these protocols by ALPN.
    pub fn server(&self, protocols: &[&str]) -> ServerConfig {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("it is a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of the provider");
        let builder = builder.with_no_client_auth().with_single_cert(vec![der(&self.certificate)], key);
        let mut config = builder.expect("they go together");
        config.alpn_protocols = of_alpn(protocols);
        config
    }
}

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new authority.
    pub fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names are fine");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key can be made")).expect("it signs itself"))
    }

    /// Its own certificate, in PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name.
    pub fn sign(&self, name: &str) -> Pair {
        self.sign_with(name, |_| {})
    }

    /// One that nobody accepts any more.
    pub fn sign_expired(&self, name: &str) -> Pair {
        self.sign_with(name, |parameters| {
            parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
        })
    }

    fn sign_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().expect("a key can be made");
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut parameters);
        let certificate = parameters.signed_by(&key, &self.0).expect("it can be signed");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// What a client of this authority's servers needs, with a certificate of its own if it shall show one.
    pub fn client(&self, own: Option<&Pair>, protocols: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.certificate())).expect("it is a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of the provider");
        let builder = builder.with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("it is a key");
                builder.with_client_auth_cert(vec![der(&pair.certificate)], key).expect("they go together")
            }
        };
        config.alpn_protocols = of_alpn(protocols);
        config
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn of_alpn(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("it is a certificate")
}

/// Shakes hands, and gives a connection and the certificate that the server showed.
///
/// # Errors
/// When the handshake fails, on either side.
pub fn connect(config: &ClientConfig, address: SocketAddr, name: &str) -> std::io::Result<(Connection, Vec<u8>)> {
    let mut socket = TcpStream::connect_timeout(&address, SOON)?;
    socket.set_read_timeout(Some(SOON))?;
    let name = ServerName::try_from(name.to_owned()).expect("a server's name");
    let mut session = ClientConnection::new(Arc::new(config.clone()), name).map_err(std::io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    let shown = session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec()).unwrap_or_default();
    let raw = socket.try_clone()?;
    Ok((Connection::over(StreamOwned::new(session, socket), raw), shown))
}
