//! The address of a Service, or of one of its endpoints (`k8s.io/apiserver/pkg/util/proxy`).

use serde_json::Value;

use crate::http::status::ApiError;
use crate::registry::Registry;

/// The label by which an EndpointSlice is a Service's.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Why a Service leads nowhere, in upstream's words.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RouteError {
    /// There is no Service of this name.
    #[error("service {0:?} not found")]
    NotFound(String),
    /// The stored Service cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ApiError),
    /// Services of this type have no address to ask.
    #[error("unsupported service type {0:?}")]
    Type(String),
    /// The Service has no address of its own.
    #[error("cannot route to service with ClusterIP \"None\"")]
    Headless,
    /// The Service has no such port.
    #[error("no service port {port} found for service {service:?}")]
    NoPort {
        /// The number that was asked for.
        port: u16,
        /// The Service's name.
        service: String,
    },
    /// None of the Service's endpoints is ready.
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
}

/// A Service and one of its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub port: u16,
}

impl Service {
    /// The name that its server's certificate must have.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// The host and port to connect to: the Service's own, or one of its endpoints', which it is in any case while there are pods that
    /// packets to the Service may not reach.
    ///
    /// # Errors
    /// When there is no such Service, port, address or endpoint.
    pub fn route(&self, registry: &Registry, to_endpoints: bool) -> Result<(String, u16), RouteError> {
        match to_endpoints || registry.egress.has_pods() {
            true => self.resolve_endpoint(registry),
            false => self.resolve(registry),
        }
    }

    /// The node of the endpoint that has this address.
    pub fn node_of(&self, registry: &Registry, address: &str) -> Option<String> {
        let trees = self.slices(registry);
        let mut endpoints = trees.iter().flat_map(|slice| list(slice, "/endpoints"));
        let has = |endpoint: &&Value| list(endpoint, "/addresses").any(|own| own == address);
        let node = endpoints.find(has)?.get("nodeName")?.as_str()?;
        Some(node.to_owned())
    }

    fn slices(&self, registry: &Registry) -> Vec<Value> {
        let slices = registry.list("discovery.k8s.io", "endpointslices", &self.namespace);
        let own = slices
            .iter()
            .filter(|slice| slice.object.meta.label(SERVICE_NAME) == Some(&*self.name));
        own.filter_map(|slice| slice.tree().ok()).collect()
    }

    fn tree(&self, registry: &Registry) -> Result<Value, RouteError> {
        let found = registry.get("", "services", &self.namespace, &self.name);
        let found = found.ok_or_else(|| RouteError::NotFound(self.name.clone()))?;
        Ok(found.tree()?)
    }

    fn no_port(&self) -> RouteError {
        RouteError::NoPort {
            port: self.port,
            service: self.name.clone(),
        }
    }

    /// The Service's own host and port.
    ///
    /// # Errors
    /// When there is no such Service, port or address.
    fn resolve(&self, registry: &Registry) -> Result<(String, u16), RouteError> {
        let tree = self.tree(registry)?;
        let text = |path: &str| tree.pointer(path).and_then(Value::as_str).unwrap_or_default();
        match text("/spec/type") {
            "ClusterIP" | "LoadBalancer" | "NodePort" => {}
            "ExternalName" => return Ok((text("/spec/externalName").to_owned(), self.port)),
            other => return Err(RouteError::Type(other.to_owned())),
        }
        let address = text("/spec/clusterIP");
        if address == "None" {
            return Err(RouteError::Headless);
        }
        let ports = tree.pointer("/spec/ports").and_then(Value::as_array);
        let has = |port: &Value| port["port"].as_u64() == Some(u64::from(self.port));
        if !ports.into_iter().flatten().any(has) {
            return Err(self.no_port());
        }
        Ok((address.to_owned(), self.port))
    }

    /// The address of an endpoint that is ready, any of them; those of the Service's first family before others.
    ///
    /// # Errors
    /// When there is no such Service or port, or no endpoint.
    fn resolve_endpoint(&self, registry: &Registry) -> Result<(String, u16), RouteError> {
        let service = self.tree(registry)?;
        match service
            .pointer("/spec/type")
            .and_then(Value::as_str)
            .unwrap_or_default()
        {
            "ClusterIP" | "LoadBalancer" | "NodePort" => {}
            other => return Err(RouteError::Type(other.to_owned())),
        }
        let number = u64::from(self.port);
        let port = list(&service, "/spec/ports").find(|p| p["port"].as_u64() == Some(number));
        let port = port.ok_or_else(|| self.no_port())?;
        let port = port["name"].as_str().unwrap_or_default();
        let family = service
            .pointer("/spec/ipFamilies/0")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let trees = self.slices(registry);
        let (first, second): (Vec<&Value>, Vec<&Value>) =
            trees.iter().partition(|slice| slice["addressType"] == family);
        for slices in [first, second] {
            let all: Vec<(&str, u16)> = slices.into_iter().flat_map(|slice| ready(slice, port)).collect();
            if !all.is_empty() {
                let mut dice = [0; 8];
                registry.environment.random(&mut dice);
                let at = usize::try_from(u64::from_ne_bytes(dice) % all.len() as u64).unwrap_or_default();
                return Ok((all[at].0.to_owned(), all[at].1));
            }
        }
        Err(RouteError::NoEndpoints(self.name.clone()))
    }
}

fn list<'a>(tree: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    tree.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// The addresses of a slice's endpoints that are ready, with the number of the port.
fn ready<'a>(slice: &'a Value, port: &str) -> Vec<(&'a str, u16)> {
    let number = list(slice, "/ports")
        .find(|p| p["name"] == port)
        .and_then(|p| p["port"].as_u64());
    let Some(number) = number.and_then(|n| u16::try_from(n).ok()) else {
        return Vec::new();
    };
    let endpoints = list(slice, "/endpoints").filter(|e| e.pointer("/conditions/ready") != Some(&Value::Bool(false)));
    let addresses = endpoints.filter_map(|e| e.pointer("/addresses/0").and_then(Value::as_str));
    addresses.map(|address| (address, number)).collect()
}
