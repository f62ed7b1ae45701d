#!/usr/bin/env python
"""What it changes that baselines are fitted on a part of the voxels at full resolution.

Of a brain with more than 400,000 voxels `read_voxels` keeps every k-th. Here two simulated patients of each site, on voxels of 1 mm, are read whole
and thinned, each baseline is fitted on both, and the scans of site A are mapped by either. Printed: the mean and the largest difference of what
comes out, in % of the intensity range. The joint tone map draws its voxels at random, so what another seed changes stands beside.
"""
import argparse

import numpy as np

from neuroscope.core import stack_sequences
from neuroscope.evaluation.baselines import BASELINES, read_voxels
from neuroscope.simulate import scan, simulate_subject

def whole(seed, site, spacing):
    "The voxels of a simulated brain in a row, as `read_voxels` has them, on the normalized scale"
    ph = simulate_subject(seed, spacing=spacing, margin=1); v = stack_sequences(scan(ph, site))[:,ph.brain]
    v = (v/np.percentile(v, 99.5, axis=1)[:,None]).astype(np.float32)
    return v[:,:,None,None],np.ones((v.shape[1],1,1), bool)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--spacing', type=float, default=1., help='voxel size, mm (1)'); p.add_argument('--subjects', type=int, default=2, help='of each site (2)')
    args = p.parse_args(); full = {k: [whole(s0+i, k, args.spacing) for i in range(args.subjects)] for k,s0 in (('a', 4000), ('b', 4100))}
    thin = {k: read_voxels(c) for k,c in full.items()}; count = lambda c: ', '.join(f'{m.size:,}' for c in c.values() for _,m in c)
    print(f'voxels: {count(full)}; thinned: {count(thin)}')
    print(f'{"difference in % of the range":34s}{"mean":>8s}{"99.9 %":>8s}{"largest":>9s}')
    def row(name, one, other):
        d = np.concatenate([abs(one.voxels(v[:,:,0,0], 'a2b')-other.voxels(v[:,:,0,0], 'a2b')).ravel() for v,_ in full['a']])
        print(f'{name:34s}{100*d.mean():8.3f}{100*np.quantile(d, .999):8.3f}{100*d.max():9.3f}', flush=True)
    for name,make in BASELINES.items():
        if name=='identity': continue
        whole_fit = make().fit(full['a'], full['b']); row(name, whole_fit, make().fit(thin['a'], thin['b']))
        if name=='joint_tone_map': row('joint_tone_map, another seed', whole_fit, make(seed=1).fit(full['a'], full['b']))

if __name__=='__main__': main()
