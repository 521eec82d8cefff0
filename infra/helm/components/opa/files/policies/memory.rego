# Who may do what with which memory namespace. The daemon asks with
#   input = {"principal": "...", "namespace": "...", "verb": "store", "grants": [{"namespaces": [...], "verbs": [...]}]}
# where "grants" come from the verified token. Nothing is allowed that no grant names; a principal on the deny list is
# refused whatever its token says.
package soma.memory

import future.keywords.contains
import future.keywords.if
import future.keywords.in

default allow := false

allow if {
	count(deny) == 0
	some grant in input.grants
	names(grant.namespaces, input.namespace)
	names(grant.verbs, input.verb)
}

names(list, wanted) if wanted in list

names(list, _) if "*" in list

deny contains "the request names no principal" if not named(input.principal)

deny contains "the principal is suspended" if input.principal in data.suspended.principals

named(value) if {
	is_string(value)
	value != ""
}
