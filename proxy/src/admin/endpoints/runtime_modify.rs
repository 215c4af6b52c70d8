//! `/runtime_modify`: sets values in the admin layer of the runtime, from the query or from a form.

use http::StatusCode;

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/runtime_modify",
    mutates: true,
    help: "set runtime values: ?<key>=<value>&<key>=<value>; an empty value takes back what was set here",
    params: &[],
    respond,
};

fn respond(request: &Request<'_>) -> Reply {
    let given = if request.query.pairs().is_empty() { &request.form } else { &request.query };
    // Asked even without values, because that there is no admin layer is the more important answer.
    match request.cx.runtime.modify(given.pairs()) {
        Err(why) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
        Ok(()) if given.pairs().is_empty() => Reply::bad_request(
            "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       \
             or send the parameters as form values\nuse an empty value to remove a previously added override",
        ),
        Ok(()) => Reply::ok(),
    }
}
