"""From what ComfyUI's Save writes to what its server runs.

The file holds a drawing: nodes with lists of widget values, links between slots, subgraphs drawn
once and used often, nodes that only the page knows. The server takes a flat graph of classes and
named inputs. Between the two the official front end loads the file into live nodes, lets the
node classes of `/object_info` decide what each value means, and walks the links. The rooms here
follow it step by step:

    document    the file, checked and typed
    frontend    what differs between the generations of the front end
    widgets     what a declared input looks like on a live node: widgets and slots
    ordering    the order of a choice's inputs where a saved `/object_info` has lost it
    live        live nodes and graphs, made from the file and the classes
    promotion   widgets that a subgraph shows on its outside
    primitives  values that one node hands to others' widgets
    links       where a link comes from in the end: through subgraphs, reroutes, bypassed nodes
    texts       what is done to texts before they are sent
    emission    the flat graph
"""
