package system.authz_test

import data.system.authz
import future.keywords.every
import future.keywords.if

test_a_question_is_answered if authz.allow with input as {"method": "POST", "path": ["v1", "data", "soma", "memory", "allow"]}

test_data_is_shown if authz.allow with input as {"method": "GET", "path": ["v1", "data"]}

test_health_is_shown if authz.allow with input as {"method": "GET", "path": ["health"]}

test_nothing_is_changed if {
	every method in ["PUT", "PATCH", "DELETE"] {
		not authz.allow with input as {"method": method, "path": ["v1", "data", "suspended"]}
		not authz.allow with input as {"method": method, "path": ["v1", "policies", "memory"]}
	}
}

test_policies_are_not_shown if not authz.allow with input as {"method": "GET", "path": ["v1", "policies"]}

test_no_query_of_ones_own_is_run if not authz.allow with input as {"method": "POST", "path": ["v1", "query"]}

test_the_start_page_is_not_shown if not authz.allow with input as {"method": "GET", "path": [""]}
