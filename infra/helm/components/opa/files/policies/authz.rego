# What this server answers: questions about decisions, and its health. Policies and data come from the chart alone;
# whoever can reach the port must not be able to change what everybody else is allowed.
package system.authz

import future.keywords.if
import future.keywords.in

default allow := false

allow if {
	input.method in ["GET", "POST"]
	array.slice(input.path, 0, 2) == ["v1", "data"]
}

allow if {
	input.method == "GET"
	input.path[0] in ["health", "metrics"]
}
