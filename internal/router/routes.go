package router

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// route is one operation of the API beside commands. Its path may hold one {id}, which comes percent-decoded.
type route struct {
	method, path string
	query        []string // parameters that it takes
	serve        func(*Router, *exchange) error
}

// routes are all operations but POST /v1/commands/{name}, the hot one, which ServeHTTP finds by itself.
var routes = []route{
	{http.MethodGet, statusPath, nil, (*Router).getStatus},
	{http.MethodGet, "/v1/stats", nil, (*Router).getStats},
	{http.MethodGet, "/v1/health", nil, (*Router).getHealth},
	{http.MethodGet, "/v1/openapi.yaml", nil, (*Router).getOpenAPI},

	{http.MethodPost, "/v1/programs", []string{"session"}, (*Router).createProgram},
	{http.MethodGet, "/v1/programs", []string{"session", "after", "limit"}, (*Router).listPrograms},
	{http.MethodGet, "/v1/programs/{id}", []string{"session"}, (*Router).getProgram},
	{http.MethodDelete, "/v1/programs/{id}", []string{"session"}, (*Router).deleteProgram},
	{http.MethodPost, "/v1/programs/{id}/execute", []string{"session"}, (*Router).executeProgram},
	{http.MethodPost, "/v1/programs/{id}/batch", []string{"session"}, (*Router).executeBatch},

	{http.MethodPost, "/v1/sessions", nil, (*Router).startSession},
	{http.MethodGet, "/v1/sessions/{id}", nil, (*Router).getSession},
	{http.MethodPatch, "/v1/sessions/{id}", nil, (*Router).updateSession},
	{http.MethodDelete, "/v1/sessions/{id}", nil, (*Router).endSession},
}

// serveRoute serves what isn't a command.
func (r *Router) serveRoute(of *exchange) {
	kept := *of // which may be kept; of a command none is
	x, req := &kept, of.req
	method := req.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allowed []string
	for i := range routes {
		id, matches := matchPath(routes[i].path, req.URL.EscapedPath())
		switch {
		case !matches:
		case routes[i].method != method:
			allowed = append(allowed, routes[i].method)
		default:
			x.id = id
			if err := r.serveExchange(&routes[i], x); err != nil {
				r.writeError(x, err)
			}
			return
		}
	}
	if len(allowed) > 0 {
		r.refuseMethod(x, strings.Join(allowed, ", "))
		return
	}
	r.writeError(x, pool.NewError(pool.RequestError, NotFound,
		"there is nothing at %q; commands are at POST %sNAME and NAME/batch, programs at /v1/programs, sessions at /v1/sessions, the state at GET %s, all of it in GET /v1/openapi.yaml",
		head(req.URL.Path, maxShownPath), commandsPath, statusPath))
}

// maxShownPath bounds what an error shows of a path that isn't there, in bytes.
const maxShownPath = 200

func (r *Router) serveExchange(to *route, x *exchange) (err error) {
	if x.query, err = readQuery(x.req, to.query); err != nil {
		return err
	}
	return to.serve(r, x)
}

// readQuery returns the request's parameters, of which only those in names may be there, once.
func readQuery(req *http.Request, names []string) (url.Values, error) {
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return nil, invalidParameter("(all)", req.URL.RawQuery, "it isn't a query: "+err.Error())
	}
	for name, values := range query {
		switch {
		case slices.Contains(names, name) && len(values) == 1:
		case slices.Contains(names, name):
			return nil, invalidParameter(name, values[1], "it is there more than once")
		case len(names) > 0:
			return nil, invalidParameter(name, values[0], "there is none of that name here; it takes "+strings.Join(names, ", "))
		default:
			return nil, invalidParameter(name, values[0], "it takes none; arguments go into the body, a session into the header "+headerSession)
		}
	}
	return query, nil
}

// matchPath compares a path, as it was sent, with a pattern.
func matchPath(pattern, path string) (id string, matches bool) {
	wanted, given := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(wanted) != len(given) {
		return "", false
	}
	for i, part := range wanted {
		if part != "{id}" {
			if part != given[i] {
				return "", false
			}
			continue
		}
		var err error
		if id, err = url.PathUnescape(given[i]); err != nil || id == "" {
			return "", false
		}
	}
	return id, true
}

func invalidParameter(name, value, problem string) *pool.Error {
	return pool.NewError(pool.RequestError, pool.InvalidPayload, "parameter %q with value %q: %s",
		head(name, maxShownPath), head(value, maxShownPath), problem).With("parameter", head(name, maxShownPath))
}
