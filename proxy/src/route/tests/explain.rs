use super::*;

#[test]
fn a_search_is_explained_step_by_step() {
    let table = table(
        "
virtual_hosts:
- name: shop
  domains: ['*.shop.test']
  routes:
  - {name: admin, match: {prefix: /admin}, direct_response: {status: 403}}
  - {name: beta, match: {prefix: /, headers: [{name: x-a}, {name: x-beta}]}, route: {cluster: beta}}
  - {match: {prefix: /, query_parameters: [{name: v}]}, route: {cluster: v}}
  - match: {prefix: /}
    route: {weighted_clusters: {clusters: [{name: blue, weight: 90}, {name: green, weight: 10}]}}
- {name: tls, domains: [tls.test], require_tls: ALL}
",
    );
    let head = get("a.shop.test", "/", &[("x-a", "1")]);
    let explanation = table.explain(&head, &info(), 295);
    assert_eq!(
        explanation.steps,
        [
            "host \"a.shop.test\": virtual host \"shop\" by longest *suffix",
            "routes[0] \"admin\": the path does not match",
            "routes[1] \"beta\": headers[1] does not match",
            "routes[2]: query_parameters[0] does not match",
            "routes[3]: matches",
            "weighted_clusters[1]: \"green\", for 95 of 100",
        ]
    );
    assert!(explanation.found.is_some());
    let none = table.explain(&get("other.test", "/", &[]), &info(), 0);
    assert_eq!(none.steps, ["host \"other.test\": no virtual host has such a domain"]);
    let tls = table.explain(&get("tls.test", "/", &[]), &info(), 0);
    assert_eq!(tls.steps[1], "virtual host \"tls\" requires TLS: redirect to https");
}
