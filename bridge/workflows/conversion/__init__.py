"""From what ComfyUI's Save writes to what its server runs.

The file holds a drawing: nodes with lists of widget values, links between slots, subgraphs drawn
once and used often, nodes that only the page knows. The server takes a flat graph of classes and
named inputs. Between the two the official front end loads the file into live nodes, lets the
node classes of `/object_info` decide what each value means, and walks the links. The modules here
follow it step by step:

    document    the file, checked and typed
    identity    node ids that are unique in the whole file
    frontend    what differs between the generations of the front end
    live        live nodes and graphs
    widgets     what a declared input looks like on a live node: widgets and slots
    ordering    the order of a choice's inputs where a saved `/object_info` has lost it
    values      the file's values, given to widgets
    promotion   widgets that a subgraph shows on its outside
    loading     all of these put together: from the file to live graphs
    primitives  values that one node hands to others' widgets
    types       which slots fit together
    links       where a link comes from in the end: through subgraphs, reroutes, bypassed nodes
    texts       what is done to texts before they are sent
    emission    the flat graph
    effort      a bound on the work that one file may cause
    errors      what is refused, and why
"""
