//! JSON-RPC as bitcoind speaks it: envelopes, errors, and which call does what.

mod blocks;
mod error;
mod faults;
mod mining;
mod params;
mod pool;
mod show;

use serde_json::{Value, json};

pub use self::error::RpcError;
pub use self::faults::Faults;
use self::params::Params;
use crate::node::Regtest;

/// What a call may need beside the node.
pub struct Desk {
    pub node: Regtest,
    pub faults: Faults,
    /// Where ZMQ is published, as `getzmqnotifications` says it.
    pub zmq: String,
    pub started: std::time::Instant,
}

/// A request that is well-formed.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub params: Value,
    id: Value,
    /// JSON-RPC 2.0, where an answer has either a result or an error, and HTTP says 200 for both.
    is_2_0: bool,
}

impl Request {
    /// # Errors
    /// It is no request; what to answer, and under which id.
    pub fn parse(request: Value) -> Result<Self, Box<(Value, RpcError)>> {
        let Value::Object(mut request) = request else {
            return Err(Box::new((
                Value::Null,
                RpcError::invalid_request("Invalid Request object"),
            )));
        };
        let id = request.remove("id").unwrap_or(Value::Null);
        let is_2_0 = request.get("jsonrpc").is_some_and(|version| version == "2.0");
        match request.remove("method") {
            Some(Value::String(method)) => Ok(Self {
                method,
                params: request.remove("params").unwrap_or(Value::Null),
                id,
                is_2_0,
            }),
            Some(_) => Err(Box::new((id, RpcError::invalid_request("Method must be a string")))),
            None => Err(Box::new((id, RpcError::invalid_request("Missing method")))),
        }
    }

    /// What goes back, and the status that HTTP has for it.
    #[must_use]
    pub fn answer(&self, result: Result<Value, RpcError>) -> (u16, Value) {
        match (result, self.is_2_0) {
            (Ok(result), true) => (200, json!({"jsonrpc": "2.0", "result": result, "id": self.id})),
            (Ok(result), false) => (200, json!({"result": result, "error": null, "id": self.id})),
            (Err(error), true) => (200, json!({"jsonrpc": "2.0", "error": error.body(), "id": self.id})),
            (Err(error), false) => refusal(&self.id, &error),
        }
    }
}

/// What goes back for what is no request.
#[must_use]
pub fn refusal(id: &Value, error: &RpcError) -> (u16, Value) {
    (error.status(), json!({"result": null, "error": error.body(), "id": id}))
}

impl Desk {
    /// Does one call.
    ///
    /// # Errors
    /// As bitcoind has them, code and text.
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, RpcError> {
        let params = Params::new(params)?;
        if self.faults.warming_up && method != "setfaults" && method != "stop" {
            return Err(RpcError::new(RpcError::IN_WARMUP, "Loading block index…"));
        }
        let Self { node, faults, .. } = self;
        match method {
            "getblockchaininfo" => Ok(blocks::chain_info(node, faults)),
            "getbestblockhash" => Ok(blocks::best_hash(node, faults)),
            "getblockcount" => Ok(json!(node.index().height())),
            "getblockhash" => blocks::hash_at(node, &params),
            "getblockheader" => blocks::header(node, &params),
            "getblock" => blocks::block(node, &params),
            "getchaintips" => Ok(blocks::tips(node)),
            "getdifficulty" => Ok(json!(node.index().tip().block.header.difficulty_float())),
            "invalidateblock" => blocks::invalidate(node, &params),
            "reconsiderblock" => blocks::reconsider(node, &params),
            "preciousblock" => blocks::prefer(node, &params),
            "getblocktemplate" => mining::template(node, &params),
            "submitblock" => mining::submit(node, &params),
            "getmininginfo" => Ok(mining::info(node)),
            "takeproposed" => Ok(mining::take_proposed(node)),
            "generatetoaddress" => mining::generate(node, &params),
            "sendrawtransaction" => pool::send(node, &params),
            "testmempoolaccept" => pool::test(node, &params),
            "getrawmempool" => pool::list(node, &params),
            "getmempoolinfo" => Ok(pool::info(node)),
            "getmempoolentry" => pool::entry(node, &params),
            "getrawtransaction" => pool::transaction(node, &params),
            "gettxout" => pool::unspent(node, &params),
            "fillmempool" => pool::fill(node, &params),
            "getnetworkinfo" => Ok(network_info()),
            "getzmqnotifications" => Ok(self.zmq_notifications()),
            "validateaddress" => show::validate_address(&params),
            "uptime" => Ok(json!(self.started.elapsed().as_secs())),
            "setfaults" => {
                self.faults = Faults::parse(&params)?;
                Ok(Value::Null)
            }
            "stop" => Ok(json!("regtest-node stopping")),
            _ => Err(RpcError::new(RpcError::METHOD_NOT_FOUND, "Method not found")),
        }
    }

    /// What a long poll waits for the end of.
    #[must_use]
    pub fn longpollid(&self) -> String {
        mining::longpollid(&self.node)
    }

    fn zmq_notifications(&self) -> Value {
        let topic = |topic| json!({"type": topic, "address": self.zmq, "hwm": crate::zmq::EVENTS_MAX});
        json!(["pubhashblock", "pubrawblock", "pubsequence"].map(topic))
    }
}

fn network_info() -> Value {
    json!({
        // That of the engine; nothing else of a network is there.
        "version": 319_900, "subversion": "/regtest-node:31.99.0/", "protocolversion": 70016,
        "localservices": "0000000000000409", "localservicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED"],
        "localrelay": true, "timeoffset": 0, "connections": 0, "connections_in": 0, "connections_out": 0,
        "networkactive": true, "networks": [], "relayfee": 0.0, "incrementalfee": 0.0, "localaddresses": [],
        "warnings": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_envelope() {
        let old = Request::parse(json!({"method": "x", "id": 7})).expect("a request");
        assert_eq!(
            old.answer(Ok(json!(1))),
            (200, json!({"result": 1, "error": null, "id": 7}))
        );
        let failed = old.answer(Err(RpcError::new(-8, "no")));
        assert_eq!(
            failed,
            (
                500,
                json!({"result": null, "error": {"code": -8, "message": "no"}, "id": 7})
            )
        );
        let unknown = old.answer(Err(RpcError::new(RpcError::METHOD_NOT_FOUND, "no")));
        assert_eq!(unknown.0, 404);
        let new = Request::parse(json!({"jsonrpc": "2.0", "method": "x", "id": "a"})).expect("a request");
        assert_eq!(
            new.answer(Ok(json!(1))),
            (200, json!({"jsonrpc": "2.0", "result": 1, "id": "a"}))
        );
        let failed = new.answer(Err(RpcError::new(-8, "no")));
        assert_eq!(
            failed,
            (
                200,
                json!({"jsonrpc": "2.0", "error": {"code": -8, "message": "no"}, "id": "a"})
            )
        );
    }

    #[test]
    fn what_is_no_request_is_refused_under_its_id() {
        for (request, id) in [
            (json!(1), Value::Null),
            (json!({"id": 3}), json!(3)),
            (json!({"method": 1, "id": 4}), json!(4)),
        ] {
            let (under, error) = *Request::parse(request).expect_err("no request");
            assert_eq!((under, error.status()), (id, 400));
        }
    }
}
